//! Which set of vector instructions kernels run by: the widest that the machine has, up to a cap.

use std::env;
use std::fmt;
use std::sync::OnceLock;

use pulp::Arch;
#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;

use crate::error::{Error, Result};

/// The environment variable that caps the instruction set; see [`InstructionSet`].
pub const CAP_VARIABLE: &str = "HYPERNN_KERNELS_SIMD";

/// A set of vector instructions.
///
/// Kernels run by the widest that the machine has. The environment variable `HYPERNN_KERNELS_SIMD`, [`CAP_VARIABLE`],
/// which is read once, caps it: `scalar`, `avx2` or `avx512`. So one machine runs what any narrower one would. A cap
/// above what the machine has changes nothing, and neither does another value, of which [`cap`](Self::cap) says what
/// is wrong. Products by the crate `gemm` ([`matmul`](mod@crate::matmul)) are not capped: it has no way to ask it for
/// less than the machine has.
///
/// ```
/// use hypernn_kernels::simd::InstructionSet;
///
/// assert!(InstructionSet::Avx2 < InstructionSet::Avx512);
/// if let Some(cap) = InstructionSet::cap()? {
///     println!("{} is in use, capped at {cap}", InstructionSet::in_use());
/// }
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum InstructionSet {
    /// No more than every processor of the architecture has: on x86-64, what the compiler makes of SSE2.
    Scalar,
    /// AVX2 with FMA: sixteen registers of 256 bits.
    Avx2,
    /// AVX-512: thirty-two registers of 512 bits.
    Avx512,
    /// What [`pulp`](https://crates.io/crates/pulp) finds on another architecture, as NEON. Only `scalar` is below it.
    Other,
}

impl InstructionSet {
    /// Those that can be named as a cap.
    const CAPS: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// The set by which kernels run.
    pub fn in_use() -> Self {
        Self::of(arch())
    }

    /// The cap that the environment names, if any; read anew, so later changes show here, though they have no effect.
    ///
    /// # Errors
    /// It names something else.
    pub fn cap() -> Result<Option<Self>> {
        let Some(found) = env::var_os(CAP_VARIABLE) else { return Ok(None) };
        Self::parse(&found.to_string_lossy()).map(Some)
    }

    fn parse(found: &str) -> Result<Self> {
        let cap = Self::CAPS.into_iter().find(|cap| cap.name() == found);
        cap.ok_or_else(|| Error::InstructionSet { found: found.to_owned() })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Other => "other",
        }
    }

    fn of(arch: Arch) -> Self {
        match arch {
            Arch::Scalar => Self::Scalar,
            #[cfg(target_arch = "x86_64")]
            Arch::V3(_) => Self::Avx2,
            #[cfg(target_arch = "x86_64")]
            Arch::V4(_) => Self::Avx512,
            #[allow(
                unreachable_patterns,
                reason = "which others there are depends on the architecture"
            )]
            _ => Self::Other,
        }
    }
}

/// As it is written in the environment.
impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What kernels are dispatched by: the one place that asks the processor and the environment, once.
#[inline]
pub(crate) fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(|| widest(InstructionSet::cap().ok().flatten()))
}

/// The token of AVX2, where the machine has it and the cap allows it.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn avx2() -> Option<V3> {
    match arch() {
        Arch::V3(avx2) => Some(avx2),
        Arch::V4(avx512) => Some(*avx512),
        _ => None,
    }
}

/// The widest that the machine has, up to the cap.
fn widest(cap: Option<InstructionSet>) -> Arch {
    match cap {
        Some(InstructionSet::Scalar) => Arch::Scalar,
        #[cfg(target_arch = "x86_64")]
        Some(InstructionSet::Avx2) => V3::try_new().map_or(Arch::Scalar, Arch::V3),
        _ => Arch::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn caps_are_named_in_lower_case() {
        for cap in InstructionSet::CAPS {
            assert_eq!(InstructionSet::parse(&cap.to_string()), Ok(cap));
        }
        let message = |found| InstructionSet::parse(found).unwrap_err().to_string();
        let expected = "HYPERNN_KERNELS_SIMD is \"AVX2\", expected scalar, avx2 or avx512";
        assert_eq!(message("AVX2"), expected);
        assert_eq!(message(""), expected.replace("AVX2", ""));
    }

    #[test]
    fn nothing_wider_than_the_cap_is_found() {
        let machine = InstructionSet::of(Arch::new());
        assert_eq!(InstructionSet::of(widest(None)), machine);
        for cap in InstructionSet::CAPS {
            let found = InstructionSet::of(widest(Some(cap)));
            let other = machine == InstructionSet::Other && cap > InstructionSet::Scalar;
            assert_eq!(found, if other { machine } else { machine.min(cap) }, "{cap}");
        }
    }

    #[test]
    fn kernels_run_within_the_cap_of_the_environment() {
        let cap = InstructionSet::cap().unwrap();
        assert_eq!(InstructionSet::in_use(), InstructionSet::of(widest(cap)));
        #[cfg(target_arch = "x86_64")]
        assert_eq!(avx2().is_some(), InstructionSet::in_use() >= InstructionSet::Avx2);
    }

    /// Runs all tests again under each cap that is below what this machine has.
    #[test]
    fn all_tests_pass_under_every_cap() {
        if env::var_os(CAP_VARIABLE).is_some() {
            return;
        }
        let machine = InstructionSet::in_use();
        let mut below =
            InstructionSet::CAPS.map(|cap| (cap, InstructionSet::of(widest(Some(cap))))).to_vec();
        below.retain(|&(_, found)| found < machine);
        for (cap, _) in below {
            let mut tests = Command::new(env::current_exe().unwrap());
            let run = tests.env(CAP_VARIABLE, cap.to_string()).output().unwrap();
            assert!(run.status.success(), "{cap}: {}", String::from_utf8_lossy(&run.stdout));
        }
    }
}
