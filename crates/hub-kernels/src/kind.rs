/// How the numbers of a weight are stored, as GGUF names it.
///
/// A block of a quantized kind is `w = d * scale[g] * q - m * min[g]`: small whole numbers `q`, and for each group `g`
/// of 16 or 32 of them a scale and a minimum, which are whole numbers too in blocks of 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are GGUF's")]
pub enum Kind {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    IQ2XXS,
    IQ2XS,
    IQ2S,
    IQ3XXS,
    IQ3S,
    IQ4NL,
    IQ4XS,
    MXFP4,
    F16,
    BF16,
    F32,
}

/// The numbers that four bits of [`Kind::IQ4NL`] and [`Kind::IQ4XS`] stand for, as llama.cpp has them (`kvalues_iq4nl`).
const IQ4NL: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// The magnitudes that a grid of IQ2 has, without a sign and with it.
const IQ2: [i8; 16] = [8, 25, 43, 0, 0, 0, 0, 0, -8, -25, -43, 0, 0, 0, 0, 0];
/// Those of [`Kind::IQ3XXS`].
const IQ3XXS: [i8; 16] = [4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62];
/// Those of [`Kind::IQ3S`].
const IQ3S: [i8; 16] = [1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15];
/// Twice the numbers that four bits of [`Kind::MXFP4`] stand for: E2M1 of the OCP Microscaling Formats, version 1.0.
const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Where the bits of quantized numbers lie in a packed tile, for 32 columns; see [`crate::packed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planes {
    /// Four bits each.
    Four,
    /// Four bits, and a fifth.
    FourOne,
    /// Four bits, and two more.
    FourTwo,
    /// Two bits each.
    Two,
    /// Two bits, and a third.
    TwoOne,
    /// A byte each, with a sign.
    Eight,
    /// Four bits each, which stand for a number of a table.
    Table(&'static [i8; 16]),
    /// Numbers are not taken apart.
    None,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 21] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::IQ2XXS,
        Self::IQ2XS,
        Self::IQ2S,
        Self::IQ3XXS,
        Self::IQ3S,
        Self::IQ4NL,
        Self::IQ4XS,
        Self::MXFP4,
        Self::F16,
        Self::BF16,
        Self::F32,
    ];

    /// Returns how many numbers a block has: 1 for plain numbers.
    pub const fn block(self) -> usize {
        match self {
            Self::F16 | Self::BF16 | Self::F32 => 1,
            _ if self.is_super() => 256,
            _ => 32,
        }
    }

    /// Whether numbers are stored as they are.
    pub const fn is_plain(self) -> bool {
        self.block() == 1
    }

    /// Returns how many bytes a block has in a file.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 | Self::IQ4NL => 18,
            Self::MXFP4 => 17,
            Self::IQ2XXS => 66,
            Self::IQ2XS => 74,
            Self::IQ2S => 82,
            Self::IQ3XXS => 98,
            Self::IQ3S => 110,
            Self::IQ4XS => 136,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
        }
    }

    /// Whether blocks have 256 numbers, and groups whose scales are whole numbers.
    pub(crate) const fn is_super(self) -> bool {
        matches!(self, Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::IQ4XS)
            || self.has_grid()
    }

    /// Whether blocks name several numbers at once, by their place in a grid. Packed, their numbers have four bits each.
    pub const fn has_grid(self) -> bool {
        matches!(self, Self::IQ2XXS | Self::IQ2XS | Self::IQ2S | Self::IQ3XXS | Self::IQ3S)
    }

    /// Returns what the scale of a block is multiplied with, so that those of its groups are whole numbers: a power of
    /// two, which an `f16` might not hold any more.
    pub(crate) const fn unit(self) -> f32 {
        match self {
            Self::IQ2XXS | Self::IQ2XS | Self::IQ2S => 0.125,
            Self::IQ3XXS => 0.25,
            _ => 1.0,
        }
    }

    /// Returns how many numbers share a scale.
    pub(crate) const fn group(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q6K | Self::IQ2XS | Self::IQ2S => 16,
            Self::F16 | Self::BF16 | Self::F32 => 1,
            _ => 32,
        }
    }

    /// Returns how many groups a block has.
    pub(crate) const fn groups(self) -> usize {
        self.block() / self.group()
    }

    /// Whether a block has minima of its own; the others' numbers are only shifted, by [`zero`](Self::zero).
    pub(crate) const fn has_min(self) -> bool {
        matches!(self, Self::Q4_1 | Self::Q5_1 | Self::Q2K | Self::Q4K | Self::Q5K)
    }

    /// Returns what is subtracted from every number of a kind without minima.
    pub(crate) const fn zero(self) -> i32 {
        match self {
            Self::Q4_0 => 8,
            Self::Q5_0 => 16,
            Self::Q3K => 4,
            Self::Q6K => 32,
            _ => 0,
        }
    }

    pub(crate) const fn planes(self) -> Planes {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q4K => Planes::Four,
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => Planes::FourOne,
            Self::Q6K => Planes::FourTwo,
            Self::Q2K => Planes::Two,
            Self::Q3K => Planes::TwoOne,
            Self::Q8_0 => Planes::Eight,
            Self::IQ2XXS | Self::IQ2XS | Self::IQ2S => Planes::Table(&IQ2),
            Self::IQ3XXS => Planes::Table(&IQ3XXS),
            Self::IQ3S => Planes::Table(&IQ3S),
            Self::IQ4NL | Self::IQ4XS => Planes::Table(&IQ4NL),
            Self::MXFP4 => Planes::Table(&E2M1),
            Self::F16 | Self::BF16 | Self::F32 => Planes::None,
        }
    }
}

impl Planes {
    /// Whether numbers come out with their signs.
    pub(crate) const fn is_signed(self) -> bool {
        matches!(self, Self::Eight | Self::Table(_))
    }

    /// Returns how many bytes 32 columns of a tile take.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Two => 128,
            Self::TwoOne => 192,
            Self::Four | Self::Table(_) => 256,
            Self::FourOne => 320,
            Self::FourTwo => 384,
            Self::Eight => 512,
            Self::None => 0,
        }
    }
}
