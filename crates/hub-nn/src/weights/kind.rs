use std::fmt;

use candle_core::quantized::GgmlDType;
use hub_kernels::Kind;

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are those of the GGUF and safetensors specifications")]
pub enum WeightKind {
    F32,
    F16,
    BF16,
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
    F8E4M3,
    F8E5M2,
    F8E8M0,
    F64,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

/// What a kind is called and how it is laid out, one row per kind.
struct Layout {
    kind: WeightKind,
    name: &'static str,
    block_len: usize,
    block_bytes: usize,
    /// The number of the type in GGUF files, where they can hold it.
    gguf: Option<u32>,
    /// The name of the type in safetensors headers, where they can hold it.
    safetensors: Option<&'static str>,
}

const fn layout(
    kind: WeightKind,
    name: &'static str,
    block: (usize, usize),
    gguf: Option<u32>,
    safetensors: Option<&'static str>,
) -> Layout {
    Layout { kind, name, block_len: block.0, block_bytes: block.1, gguf, safetensors }
}

/// In the order of the enum, which [`WeightKind::layout`] counts on and a test holds.
static LAYOUTS: [Layout; 31] = [
    layout(WeightKind::F32, "F32", (1, 4), Some(0), Some("F32")),
    layout(WeightKind::F16, "F16", (1, 2), Some(1), Some("F16")),
    layout(WeightKind::BF16, "BF16", (1, 2), Some(30), Some("BF16")),
    layout(WeightKind::Q4_0, "Q4_0", (32, 18), Some(2), None),
    layout(WeightKind::Q4_1, "Q4_1", (32, 20), Some(3), None),
    layout(WeightKind::Q5_0, "Q5_0", (32, 22), Some(6), None),
    layout(WeightKind::Q5_1, "Q5_1", (32, 24), Some(7), None),
    layout(WeightKind::Q8_0, "Q8_0", (32, 34), Some(8), None),
    layout(WeightKind::Q2K, "Q2_K", (256, 84), Some(10), None),
    layout(WeightKind::Q3K, "Q3_K", (256, 110), Some(11), None),
    layout(WeightKind::Q4K, "Q4_K", (256, 144), Some(12), None),
    layout(WeightKind::Q5K, "Q5_K", (256, 176), Some(13), None),
    layout(WeightKind::Q6K, "Q6_K", (256, 210), Some(14), None),
    layout(WeightKind::IQ2XXS, "IQ2_XXS", (256, 66), Some(16), None),
    layout(WeightKind::IQ2XS, "IQ2_XS", (256, 74), Some(17), None),
    layout(WeightKind::IQ2S, "IQ2_S", (256, 82), Some(22), None),
    layout(WeightKind::IQ3XXS, "IQ3_XXS", (256, 98), Some(18), None),
    layout(WeightKind::IQ3S, "IQ3_S", (256, 110), Some(21), None),
    layout(WeightKind::IQ4NL, "IQ4_NL", (32, 18), Some(20), None),
    layout(WeightKind::IQ4XS, "IQ4_XS", (256, 136), Some(23), None),
    layout(WeightKind::MXFP4, "MXFP4", (32, 17), Some(39), None),
    layout(WeightKind::F8E4M3, "F8_E4M3", (1, 1), None, Some("F8_E4M3")),
    layout(WeightKind::F8E5M2, "F8_E5M2", (1, 1), None, Some("F8_E5M2")),
    layout(WeightKind::F8E8M0, "F8_E8M0", (1, 1), None, Some("F8_E8M0")),
    layout(WeightKind::F64, "F64", (1, 8), Some(28), Some("F64")),
    layout(WeightKind::I64, "I64", (1, 8), Some(27), Some("I64")),
    layout(WeightKind::I32, "I32", (1, 4), Some(26), Some("I32")),
    layout(WeightKind::I16, "I16", (1, 2), Some(25), Some("I16")),
    layout(WeightKind::I8, "I8", (1, 1), Some(24), Some("I8")),
    layout(WeightKind::U8, "U8", (1, 1), None, Some("U8")),
    layout(WeightKind::Bool, "BOOL", (1, 1), None, Some("BOOL")),
];

impl WeightKind {
    /// Iterates over every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        LAYOUTS.iter().map(|layout| layout.kind)
    }

    /// Returns the name of the kind as the field writes it, `Q4_K`.
    pub fn as_str(self) -> &'static str {
        self.layout().name
    }

    /// Returns how many numbers one block holds: 1 for plain kinds.
    pub fn block_len(self) -> usize {
        self.layout().block_len
    }

    /// Returns how many bytes one block takes.
    pub fn block_bytes(self) -> usize {
        self.layout().block_bytes
    }

    /// Whether the kind packs several numbers into a block with a shared scale.
    pub fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Whether the kind is an unpacked floating-point number.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64)
    }

    /// Returns how many bytes a tensor of `shape` takes, or `None` if that overflows or rows are not whole blocks.
    pub fn bytes_of(self, shape: &[usize]) -> Option<usize> {
        let elements = elements_of(shape)?;
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(self.block_len()) {
            return None;
        }
        (elements / self.block_len()).checked_mul(self.block_bytes())
    }

    pub(super) fn from_gguf(number: u32) -> Option<Self> {
        LAYOUTS.iter().find(|layout| layout.gguf == Some(number)).map(|layout| layout.kind)
    }

    pub(super) fn to_gguf(self) -> Option<u32> {
        self.layout().gguf
    }

    pub(super) fn from_safetensors(dtype: &str) -> Option<Self> {
        LAYOUTS.iter().find(|layout| layout.safetensors == Some(dtype)).map(|layout| layout.kind)
    }

    /// Returns candle's name of the kind, for those that candle multiplies with as they are.
    pub(crate) fn to_ggml(self) -> Option<GgmlDType> {
        match self {
            Self::F32 => Some(GgmlDType::F32),
            Self::F16 => Some(GgmlDType::F16),
            Self::BF16 => Some(GgmlDType::BF16),
            Self::Q4_0 => Some(GgmlDType::Q4_0),
            Self::Q4_1 => Some(GgmlDType::Q4_1),
            Self::Q5_0 => Some(GgmlDType::Q5_0),
            Self::Q5_1 => Some(GgmlDType::Q5_1),
            Self::Q8_0 => Some(GgmlDType::Q8_0),
            Self::Q2K => Some(GgmlDType::Q2K),
            Self::Q3K => Some(GgmlDType::Q3K),
            Self::Q4K => Some(GgmlDType::Q4K),
            Self::Q5K => Some(GgmlDType::Q5K),
            Self::Q6K => Some(GgmlDType::Q6K),
            Self::IQ2XXS | Self::IQ2XS | Self::IQ2S | Self::IQ3XXS | Self::IQ3S => None,
            Self::IQ4NL | Self::IQ4XS | Self::MXFP4 => None,
            Self::F8E4M3 | Self::F8E5M2 | Self::F8E8M0 => None,
            Self::F64 | Self::I64 | Self::I32 | Self::I16 | Self::I8 | Self::U8 | Self::Bool => None,
        }
    }

    /// Returns the kernels' name of the kind, for those that they multiply with as they are.
    pub(crate) fn to_kernels(self) -> Option<Kind> {
        Some(match self {
            Self::F32 => Kind::F32,
            Self::F16 => Kind::F16,
            Self::BF16 => Kind::BF16,
            Self::Q4_0 => Kind::Q4_0,
            Self::Q4_1 => Kind::Q4_1,
            Self::Q5_0 => Kind::Q5_0,
            Self::Q5_1 => Kind::Q5_1,
            Self::Q8_0 => Kind::Q8_0,
            Self::Q2K => Kind::Q2K,
            Self::Q3K => Kind::Q3K,
            Self::Q4K => Kind::Q4K,
            Self::Q5K => Kind::Q5K,
            Self::Q6K => Kind::Q6K,
            Self::IQ2XXS => Kind::IQ2XXS,
            Self::IQ2XS => Kind::IQ2XS,
            Self::IQ2S => Kind::IQ2S,
            Self::IQ3XXS => Kind::IQ3XXS,
            Self::IQ3S => Kind::IQ3S,
            Self::IQ4NL => Kind::IQ4NL,
            Self::IQ4XS => Kind::IQ4XS,
            Self::MXFP4 => Kind::MXFP4,
            Self::F8E4M3 | Self::F8E5M2 | Self::F8E8M0 => return None,
            Self::F64 | Self::I64 | Self::I32 | Self::I16 | Self::I8 | Self::U8 | Self::Bool => return None,
        })
    }

    fn layout(self) -> &'static Layout {
        &LAYOUTS[self as usize]
    }
}

impl fmt::Display for WeightKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Returns how many numbers a tensor of `shape` holds, or `None` if that overflows.
pub(super) fn elements_of(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_the_order_of_the_enum() {
        for (idx, kind) in WeightKind::all().enumerate() {
            assert_eq!(kind as usize, idx, "{kind}");
        }
    }

    #[test]
    fn blocks_agree_with_candle() {
        for kind in WeightKind::all() {
            if let Some(ggml) = kind.to_ggml() {
                assert_eq!(
                    (ggml.block_size(), ggml.type_size()),
                    (kind.block_len(), kind.block_bytes()),
                    "{kind}"
                );
            }
        }
    }

    #[test]
    fn bytes_of_a_shape() {
        assert_eq!(WeightKind::F32.bytes_of(&[]), Some(4));
        assert_eq!(WeightKind::F16.bytes_of(&[3, 5]), Some(30));
        assert_eq!(WeightKind::Q4K.bytes_of(&[2, 512]), Some(4 * 144));
        assert_eq!(WeightKind::Q4K.bytes_of(&[256, 2]), None, "rows must be whole blocks");
        assert_eq!(WeightKind::F32.bytes_of(&[usize::MAX, 2]), None);
        assert_eq!(WeightKind::F32.bytes_of(&[usize::MAX]), None);
    }
}
