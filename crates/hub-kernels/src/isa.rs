use std::fmt;

/// Which instructions kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, one number at a time: what the others are compared with.
    Scalar,
    /// Plain Rust that compilers turn into vectors, for every processor.
    Portable,
    /// AVX2 with FMA and F16C: desktop processors since 2013.
    Avx2,
    /// AVX2 with products of bytes that are summed up in 32 bits: desktop processors since 2021.
    AvxVnni,
    /// AVX-512 with the same products: servers since 2019, desktops of AMD since 2022.
    Avx512,
    /// AVX-512, and whole tiles multiplied at once: servers of Intel since 2023.
    Amx,
}

impl Isa {
    /// Every set, the plainest first.
    pub const ALL: [Self; 6] =
        [Self::Scalar, Self::Portable, Self::Avx2, Self::AvxVnni, Self::Avx512, Self::Amx];

    /// Returns the best that this processor has, of those that were run and measured on a processor that has them: all
    /// but [`Amx`](Self::Amx).
    pub fn best() -> Self {
        Self::Avx512.checked()
    }

    /// Whether this processor has it.
    pub fn is_here(self) -> bool {
        match self {
            Self::Scalar | Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.is_here() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_here()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Amx => Self::Avx512.is_here() && crate::tiles::are_here(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Returns its name in settings and reports: `"avx2"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// Returns the set whose vectors this one has. It is looked for at every call, which takes a system call for tiles:
    /// those are looked for once, when a [`Cpu`](crate::Cpu) is made.
    pub(crate) fn vectors(self) -> Self {
        if self == Self::Amx { Self::Avx512 } else { self }
    }

    /// Returns this, or the best of the plainer ones if the processor lacks it: no kernel runs instructions that are
    /// not there.
    pub(crate) fn checked(self) -> Self {
        let plainer = Self::ALL.into_iter().rev().filter(|isa| *isa <= self);
        plainer.into_iter().find(|isa| isa.is_here()).unwrap_or(Self::Portable)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
