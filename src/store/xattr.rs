//! Extended attributes. `user.*` is sealed, name and value, and bound to the object; `security.*`, `trusted.*` and the
//! access control lists pass through as they are, since the kernel and its security modules act on them.

use crate::store::backing::{Backing, Target, XattrMode};
use crate::store::error::{Error, Result};
use crate::store::volume::Volume;

pub(super) const SEALED_PREFIX: &[u8] = b"user.wardfs.";
const PASSED: [&[u8]; 3] = [b"security.", b"trusted.", b"system.posix_acl_"];

/// Which way an attribute goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sealed,
    Passed,
}

fn way(name: &[u8]) -> Result<Way> {
    if name.starts_with(b"user.") {
        return if name.len() > b"user.".len() {
            Ok(Way::Sealed)
        } else {
            Err(Error::Invalid)
        };
    }
    match PASSED.iter().any(|prefix| name.starts_with(prefix)) {
        true => Ok(Way::Passed),
        false => Err(Error::Unsupported),
    }
}

/// An object with attributes. `id` yields what sealed attributes are bound to: the file or directory id.
pub struct Attributed<'a, B: Backing> {
    pub target: Target<'a, B>,
    pub id: &'a dyn Fn() -> Result<Vec<u8>>,
}

impl<B: Backing> std::fmt::Debug for Attributed<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attributed")
    }
}

impl<B: Backing> Volume<B> {
    pub fn get_xattr(&self, of: &Attributed<'_, B>, name: &[u8]) -> Result<Vec<u8>> {
        if way(name)? == Way::Passed {
            return Ok(self.backing().get_xattr(of.target, name)?);
        }
        let id = (of.id)()?;
        let stored_name = self.keys().names().xattr_name(&id, name);
        let stored = self
            .backing()
            .get_xattr(of.target, stored_name.as_bytes())?;
        let (found, value) = self.open_xattr(&id, &stored_name, &stored)?;
        if found == name {
            Ok(value)
        } else {
            Err(Error::DamagedName)
        }
    }

    pub fn set_xattr(
        &self,
        of: &Attributed<'_, B>,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        self.check_writable()?;
        if way(name)? == Way::Passed {
            return Ok(self.backing().set_xattr(of.target, name, value, mode)?);
        }
        let id = (of.id)()?;
        let names = self.keys().names();
        let stored_name = names.xattr_name(&id, name);
        let stored = names.seal_xattr(&id, name, value);
        Ok(self
            .backing()
            .set_xattr(of.target, stored_name.as_bytes(), &stored, mode)?)
    }

    pub fn remove_xattr(&self, of: &Attributed<'_, B>, name: &[u8]) -> Result<()> {
        self.check_writable()?;
        if way(name)? == Way::Passed {
            return Ok(self.backing().remove_xattr(of.target, name)?);
        }
        let stored_name = self.keys().names().xattr_name(&(of.id)()?, name);
        Ok(self
            .backing()
            .remove_xattr(of.target, stored_name.as_bytes())?)
    }

    /// Attribute names, each ended by a NUL. One that does not authenticate is left out and logged.
    pub fn list_xattrs(&self, of: &Attributed<'_, B>) -> Result<Vec<u8>> {
        let stored = self.backing().list_xattrs(of.target)?;
        let mut listed = Vec::with_capacity(stored.len());
        let mut id = None;
        for name in stored.split(|b| *b == 0).filter(|n| !n.is_empty()) {
            if !name.starts_with(SEALED_PREFIX) {
                if way(name).is_ok_and(|w| w == Way::Passed) {
                    listed.extend_from_slice(name);
                    listed.push(0);
                }
                continue;
            }
            let id = match &id {
                Some(id) => id,
                None => id.insert((of.id)()?),
            };
            let value = self.backing().get_xattr(of.target, name)?;
            let opened = std::str::from_utf8(name)
                .map_err(|_| Error::DamagedName)
                .and_then(|name| self.open_xattr(id, name, &value));
            match opened {
                Ok((plain, _)) => {
                    listed.extend_from_slice(&plain);
                    listed.push(0);
                }
                Err(_) => {
                    log::warn!("an extended attribute that does not authenticate is left out")
                }
            }
        }
        Ok(listed)
    }

    fn open_xattr(
        &self,
        id: &[u8],
        stored_name: &str,
        stored: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>)> {
        self.keys()
            .names()
            .open_xattr(id, stored_name, stored)
            .map_err(|_| Error::DamagedName)
    }
}
