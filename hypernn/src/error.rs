//! Errors with kinds.
//!
//! They travel inside of candle's errors, as `candle_core::Error::Io`, the one variant that holds an error of
//! any type and prints as that error does.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use candle_core::Error as CandleError;

/// What went wrong, for callers that do something about it.
///
/// Functions return `candle_core::Result`, so that they mix with candle's own. [`Error::of`] finds this error in
/// candle's. What candle itself reports, such as a failed product of two tensors, has none.
///
/// `Display` is the whole message, also where the error is printed as candle's.
///
/// ```
/// use candle_core::{DType, Device, Result};
/// use hypernn::nn::{Linear, VarBuilder, VarMap};
/// use hypernn::{Error, HyperTarget, hypernetwork};
///
/// #[derive(HyperTarget)]
/// struct Small {
///     #[hyper(linear(4, 2))]
///     fc: Linear,
/// }
///
/// #[derive(HyperTarget)]
/// struct Large {
///     #[hyper(linear(4, 3))]
///     fc: Linear,
/// }
///
/// hypernetwork! {
///     struct HyperSmall for Small { embedding: table(5, 3), generator: linear, mode: static }
///
///     struct HyperLarge for Large { embedding: table(5, 3), generator: linear, mode: static }
/// }
///
/// # fn main() -> Result<()> {
/// let vb = || VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let path = std::env::temp_dir().join("hypernn_of_another_target.safetensors");
/// HyperSmall::new(vb())?.save(&path)?;
///
/// let refused = HyperLarge::new(vb())?.load(&path).err();
/// let what_to_do = match refused.as_ref().and_then(|err| Error::of(err)) {
///     Some(Error::Io { kind: std::io::ErrorKind::NotFound, .. }) => "start afresh".to_owned(),
///     Some(Error::Layout { found: Some(found), .. }) => format!("it has `{found}`: choose another"),
///     Some(Error::File { .. }) => "download it once more".to_owned(),
///     _ => "give up".to_owned(),
/// };
/// assert_eq!(what_to_do, "it has `0 fc.weight [2, 4] weight`: choose another");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has another shape than expected, or there is another number of values, sets or rows.
    #[error("{message}")]
    #[non_exhaustive]
    Shape {
        /// What has this shape, the shape and the one that was expected.
        message: String,
    },
    /// A tensor, builder or network has another dtype than expected.
    #[error("{message}")]
    #[non_exhaustive]
    Dtype {
        /// What has this dtype, the dtype and the one that was expected.
        message: String,
    },
    /// Tensors, builder and network are on several devices, or on one that can't do what was asked.
    #[error("{message}")]
    #[non_exhaustive]
    Device {
        /// What is where.
        message: String,
    },
    /// A file is whole, but of another target, of other parts or over another pretrained network.
    #[error("{message}")]
    #[non_exhaustive]
    Layout {
        /// The file, and the first difference.
        message: String,
        /// What the file has where it first differs.
        found: Option<String>,
        /// What this network has there.
        expected: Option<String>,
        /// The file.
        path: Option<PathBuf>,
    },
    /// A file is damaged, altered, of another format or of a later version.
    #[error("{message}")]
    #[non_exhaustive]
    File {
        /// The file, and what it is instead.
        message: String,
        /// The file.
        path: Option<PathBuf>,
    },
    /// The system can't read or write a file: it is not there, nobody may, the disk is full.
    #[error("{message}")]
    #[non_exhaustive]
    Io {
        /// The file, and the system's words.
        message: String,
        /// The system's own kind.
        kind: io::ErrorKind,
        /// The file.
        path: Option<PathBuf>,
    },
    /// More memory is needed than there is.
    #[error("{message}")]
    #[non_exhaustive]
    Memory {
        /// What for, and how much.
        message: String,
    },
    /// Values are NaN or infinite.
    #[error("{message}")]
    #[non_exhaustive]
    NotFinite {
        /// Whose values, how many, and the first.
        message: String,
    },
    /// Something was declared that can't be: sizes, settings, roles, patterns of names.
    #[error("{message}")]
    #[non_exhaustive]
    Declaration {
        /// What was declared, and what is expected.
        message: String,
    },
    /// A condition of a dynamic hypernetwork has another form than its embedding takes.
    #[error("{message}")]
    #[non_exhaustive]
    Condition {
        /// The condition's form and the one that was expected.
        message: String,
    },
    /// Ranks that compute together differ, or one of them has failed or ended.
    #[error("{message}")]
    #[non_exhaustive]
    Ranks {
        /// Which rank, and how it differs or what it failed by.
        message: String,
    },
}

impl Error {
    /// The error of this crate in another, if there is one: in candle's, behind whatever candle puts around it
    /// (a backtrace, a context, a path), and in those that name their source, such as a `Box<dyn Error>`.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use hypernn::Error;
    /// use hypernn::nn::{Linear, Module};
    ///
    /// # fn main() -> candle_core::Result<()> {
    /// let linear = Linear::new(Tensor::zeros((2, 4), DType::F32, &Device::Cpu)?, None);
    /// let err = linear.forward(&Tensor::zeros((1, 3), DType::F32, &Device::Cpu)?).err();
    /// assert!(err.is_some_and(|err| matches!(Error::of(&err), Some(Error::Shape { .. }))));
    ///
    /// // candle's own errors are none of these.
    /// let err = Tensor::zeros(2, DType::F32, &Device::Cpu)?.reshape(3).err();
    /// assert!(err.is_some_and(|err| Error::of(&err).is_none()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn of<'a>(err: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        if let Some(found) = err.downcast_ref::<Self>() {
            return Some(found);
        }
        if let Some(err) = err.downcast_ref::<io::Error>() {
            return Self::of(err.get_ref()?);
        }
        let Some(err) = err.downcast_ref::<CandleError>() else {
            return Self::of(err.source()?);
        };
        match err {
            CandleError::Io(err) => Self::of(err),
            CandleError::WithBacktrace { inner, .. }
            | CandleError::Context { inner, .. }
            | CandleError::WithPath { inner, .. } => Self::of(&**inner),
            CandleError::WrappedContext { wrapped, .. } => Self::of(&**wrapped),
            _ => None,
        }
    }

    /// This error with other words.
    pub(crate) fn reworded(mut self, words: impl FnOnce(&str) -> String) -> Self {
        let message = match &mut self {
            Self::Shape { message }
            | Self::Dtype { message }
            | Self::Device { message }
            | Self::Layout { message, .. }
            | Self::File { message, .. }
            | Self::Io { message, .. }
            | Self::Memory { message }
            | Self::NotFinite { message }
            | Self::Declaration { message }
            | Self::Condition { message }
            | Self::Ranks { message } => message,
        };
        *message = words(message);
        self
    }

    /// This error with the path of the file that it is about, where it is about one.
    pub(crate) fn at(mut self, file: &Path) -> Self {
        if let Self::Layout { path, .. } | Self::File { path, .. } | Self::Io { path, .. } =
            &mut self
        {
            *path = Some(file.to_owned());
        }
        self
    }

    /// What the system would call it.
    fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { kind, .. } => *kind,
            Self::Layout { .. } | Self::File { .. } => io::ErrorKind::InvalidData,
            Self::Memory { .. } => io::ErrorKind::OutOfMemory,
            _ => io::ErrorKind::InvalidInput,
        }
    }
}

/// candle's errors take one of another type apart again only where it is in an `io::Error`.
impl From<Error> for CandleError {
    fn from(err: Error) -> Self {
        Self::Io(io::Error::new(err.io_kind(), err)).bt()
    }
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident $variant:ident { $($field:ident),* };)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(message: impl Into<String>) -> CandleError {
            Error::$variant { message: message.into(), $($field: None),* }.into()
        }
    )*};
}

constructors! {
    /// [`Error::Shape`].
    shape Shape {};
    /// [`Error::Dtype`].
    dtype Dtype {};
    /// [`Error::Device`].
    device Device {};
    /// [`Error::Layout`] without what differs.
    layout Layout { found, expected, path };
    /// [`Error::File`].
    file File { path };
    /// [`Error::Memory`].
    memory Memory {};
    /// [`Error::NotFinite`].
    not_finite NotFinite {};
    /// [`Error::Declaration`].
    declaration Declaration {};
    /// [`Error::Condition`].
    condition Condition {};
    /// [`Error::Ranks`].
    ranks Ranks {};
}

/// [`Error::Layout`] with the first difference.
pub(crate) fn difference(message: String, found: &str, expected: &str) -> CandleError {
    let (found, expected) = (Some(found.to_owned()), Some(expected.to_owned()));
    Error::Layout { message, found, expected, path: None }.into()
}

/// [`Error::Io`].
pub(crate) fn io(kind: io::ErrorKind, message: impl Into<String>) -> CandleError {
    Error::Io { message: message.into(), kind, path: None }.into()
}

/// An error with other words than `err`, of the same kind if that has one.
pub(crate) fn reworded(err: &CandleError, words: impl FnOnce(&str) -> String) -> CandleError {
    let words = words(&plain(err));
    match Error::of(err) {
        Some(found) => found.clone().reworded(|_| words).into(),
        None => CandleError::Msg(words).bt(),
    }
}

/// The same error, of the same kind, for somebody else.
pub(crate) fn copied(err: &CandleError) -> CandleError {
    reworded(err, str::to_owned)
}

/// What an error says, without the backtraces that candle puts behind it: whoever words it anew gets one of its own.
pub(crate) fn plain(err: &CandleError) -> String {
    match err {
        CandleError::WithBacktrace { inner, .. } => plain(inner),
        CandleError::Context { inner, context } => format!("{context}\n{}", plain(inner)),
        CandleError::WithPath { inner, path } => format!("path: {path:?} {}", plain(inner)),
        CandleError::WrappedContext { wrapped, context } => match wrapped.downcast_ref() {
            Some(inner) => format!("{}\n{context:?}", plain(inner)),
            None => err.to_string(),
        },
        err => err.to_string(),
    }
}

/// Returns an error of a kind: `bail!(shape, "{layer}: …")`.
macro_rules! bail {
    ($kind:ident, $($message:tt)+) => {
        return Err($crate::error::$kind(format!($($message)+)))
    };
}

pub(crate) use bail;

#[cfg(test)]
mod tests {
    use candle_core::Context;

    use super::*;

    const WORDS: &str = "linear: the input has width 3, expected 4";

    /// Whether it is found, and found to be a shape.
    fn found(err: &(dyn StdError + 'static)) -> bool {
        matches!(Error::of(err), Some(Error::Shape { message }) if message == WORDS)
    }

    #[test]
    fn it_prints_as_it_is() {
        let err = CandleError::from(Error::Shape { message: WORDS.to_owned() });
        // A backtrace may follow.
        for text in [err.to_string(), format!("{err:?}")] {
            assert_eq!(text.lines().next(), Some(WORDS));
        }
    }

    #[test]
    fn it_is_found_behind_all_that_candle_puts_around_it() {
        let err = || shape(WORDS);
        assert!(found(&err()));
        assert!(found(&err().context("while training")));
        assert!(found(&err().with_path("net.safetensors").context("while loading")));
        let backtrace = Box::new(std::backtrace::Backtrace::force_capture());
        let traced = CandleError::WithBacktrace { inner: Box::new(err()), backtrace };
        assert!(traced.to_string().starts_with(WORDS));
        assert!(found(&traced.with_path("a")));
        let wrapped = Err::<(), _>(err()).context("in the third layer").err();
        assert!(wrapped.is_some_and(|err| found(&err)));
        let boxed: Box<dyn StdError> = err().into();
        assert!(found(&*boxed));
        assert!(found(&io::Error::other(err())));
    }

    /// `RUST_BACKTRACE=1` is no part of what a file or a caller is told.
    #[test]
    fn words_have_no_backtrace() {
        let traced = |inner: CandleError| {
            let backtrace = Box::new(std::backtrace::Backtrace::force_capture());
            CandleError::WithBacktrace { inner: Box::new(inner), backtrace }
        };
        let wrapped = Err::<(), _>(traced(shape(WORDS))).context("outer").err();
        let with_path = traced(traced(shape(WORDS)).with_path("net"));
        for (err, expected) in [
            (traced(shape(WORDS)), WORDS.to_owned()),
            (traced(shape(WORDS)).context("outer"), format!("outer\n{WORDS}")),
            (with_path, format!("path: \"net\" {WORDS}")),
            (traced(CandleError::Msg("candle's".to_owned())), "candle's".to_owned()),
        ] {
            assert_eq!(plain(&err), expected);
            let again = reworded(&err, |words| format!("again: {words}"));
            assert_eq!(plain(&again), format!("again: {expected}"));
        }
        assert_eq!(wrapped.map(|err| plain(&err)), Some(format!("{WORDS}\n\"outer\"")));
    }

    #[test]
    fn others_are_none() {
        assert!(Error::of(&CandleError::Msg(WORDS.to_owned())).is_none());
        assert!(Error::of(&CandleError::wrap(WORDS)).is_none());
        assert!(Error::of(&CandleError::Io(io::ErrorKind::NotFound.into())).is_none());
    }

    #[test]
    fn other_words_keep_the_kind_and_the_file() {
        let err = io(io::ErrorKind::NotFound, "no such file");
        let err = reworded(&err, |words| format!("can't read it: {words}"));
        assert!(err.to_string().starts_with("can't read it: no such file"));
        let found = Error::of(&err).cloned().map(|found| found.at(Path::new("net")));
        assert!(matches!(
            found,
            Some(Error::Io { kind: io::ErrorKind::NotFound, path: Some(path), .. }) if path == Path::new("net")
        ));
    }
}
