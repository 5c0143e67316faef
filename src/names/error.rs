//! What can be wrong with a stored name.

/// Why a stored name, link target or attribute was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Not of the form that is stored here: wrong alphabet, length or padding bits.
    Malformed,
    /// Changed, of another directory, object or volume.
    Unauthentic,
    /// Authentic, but not what an encoder writes: padding, a NUL, a slash, `.` or `..`.
    NotCanonical,
}

impl std::fmt::Display for NameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "is not of the stored form",
            Self::Unauthentic => "does not authenticate",
            Self::NotCanonical => "is authentic but not canonical",
        })
    }
}

impl std::error::Error for NameError {}
