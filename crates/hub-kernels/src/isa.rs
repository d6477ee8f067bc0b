use std::fmt;

/// Which instructions kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, for every processor: what the others are compared with.
    Portable,
    /// AVX2 with FMA and F16C: desktop processors since 2013.
    Avx2,
}

impl Isa {
    /// Every set, the plainest first.
    pub const ALL: [Self; 2] = [Self::Portable, Self::Avx2];

    /// Returns the best that this processor has.
    pub fn best() -> Self {
        Self::ALL.into_iter().rev().find(|isa| isa.is_here()).unwrap_or(Self::Portable)
    }

    /// Whether this processor has it.
    pub fn is_here(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 => false,
        }
    }

    /// Returns its name in settings and reports: `"avx2"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
        }
    }

    /// Returns this, or what every processor has if this one lacks it: no kernel runs instructions that are not there.
    pub(crate) fn checked(self) -> Self {
        if self.is_here() { self } else { Self::Portable }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
