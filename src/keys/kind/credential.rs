//! A credential: a file that the service manager puts into `$CREDENTIALS_DIRECTORY`. The slot keeps its name.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Created, Kind, KindError};
use crate::format::slot::SlotKind;
use crate::keys::secret::{SlotSecret, hash_keyfile};

/// Credentials are looked for in `directory` and nowhere else.
#[derive(Debug)]
pub struct Credential {
    pub directory: PathBuf,
    /// Of a new slot.
    pub name: String,
}

impl Credential {
    /// The file of the slot that keeps `data`.
    ///
    /// # Errors
    /// [`KindError::CredentialName`]: no name leads out of the directory.
    pub fn path(directory: &Path, data: &[u8]) -> Result<PathBuf, KindError> {
        let name = std::str::from_utf8(data).map_err(|_| KindError::CredentialName)?;
        let is_one = (1..=255).contains(&name.len())
            && !matches!(name, "." | "..")
            && !name.contains(|c: char| c == '/' || c.is_control());
        if is_one {
            Ok(directory.join(name))
        } else {
            Err(KindError::CredentialName)
        }
    }

    fn read(&self, name: &[u8]) -> Result<SlotSecret, KindError> {
        let path = Self::path(&self.directory, name)?;
        let read = File::open(&path).and_then(|mut file| hash_keyfile(&mut file));
        match read {
            Ok(hash) => Ok(SlotSecret::other(SlotKind::Credential, hash)),
            Err(source) => Err(KindError::Io {
                what: format!("read the credential {}", path.display()),
                source,
            }),
        }
    }
}

impl Kind for Credential {
    fn kind(&self) -> SlotKind {
        SlotKind::Credential
    }

    fn create(&self) -> Result<Created, KindError> {
        let secret = self.read(self.name.as_bytes())?;
        Ok(Created::of(secret, self.name.clone().into_bytes()))
    }

    fn open(&self, data: &[u8]) -> Result<SlotSecret, KindError> {
        self.read(data)
    }

    fn describe(data: &[u8]) -> Result<String, KindError> {
        Self::path(Path::new(""), data).map(|name| name.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let directory = Path::new("/run/credentials");
        let long = "x".repeat(256);
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "/etc/passwd",
            "a\0b",
            "a\u{1b}b",
            &long,
        ] {
            assert!(
                Credential::path(directory, bad.as_bytes()).is_err(),
                "{bad}"
            );
        }
        assert!(Credential::path(directory, b"\xff").is_err());
        let path = Credential::path(directory, b"wardfs.key").expect("a name");
        assert_eq!(path, directory.join("wardfs.key"));
    }
}
