/// Which instructions a product uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, for every processor: what the others are compared with.
    Portable,
    /// AVX2 with FMA and F16C: desktop processors since 2013.
    Avx2,
}

impl Isa {
    /// Returns the best that this processor has.
    pub fn best() -> Self {
        if Self::Avx2.is_here() { Self::Avx2 } else { Self::Portable }
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

    /// Returns this, or what every processor has if this one lacks it: no product runs instructions that are not there.
    pub(crate) fn checked(self) -> Self {
        if self.is_here() { self } else { Self::Portable }
    }
}
