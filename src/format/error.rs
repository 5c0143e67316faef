//! What can be wrong with stored bytes.

/// Why a decoder refused its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatError {
    /// It does not begin with the magic bytes: it is something else.
    Magic,
    /// No encoder writes this length.
    Length { found: usize },
    /// Readers of this version must not touch it.
    Version { needs: u16 },
    /// It uses incompatible features that this version does not know.
    Features { unknown: u64 },
    /// The checksum does not match: it is damaged.
    Checksum,
    /// The keyed MAC does not match: it was changed by somebody without the key, or is damaged.
    Mac,
    /// The named field has a value that no encoder writes.
    Field(&'static str),
}

impl FormatError {
    /// Whether a newer version of wardfs may be able to read it.
    pub fn is_unsupported(self) -> bool {
        matches!(self, Self::Version { .. } | Self::Features { .. })
    }
}

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Magic => f.write_str("it does not begin with the right magic bytes"),
            Self::Length { found } => write!(f, "{found} bytes is an impossible length"),
            Self::Version { needs } => write!(f, "it needs a wardfs that reads format {needs}"),
            Self::Features { unknown } => {
                write!(
                    f,
                    "it uses features that this wardfs does not know ({unknown:#x})"
                )
            }
            Self::Checksum => f.write_str("its checksum is wrong"),
            Self::Mac => f.write_str("it does not authenticate"),
            Self::Field(name) => write!(f, "its {name} is impossible"),
        }
    }
}

impl std::error::Error for FormatError {}
