//! Extended attributes: those that are sealed must open; all are copied when the object is salvaged.

use crate::store::backing::{Backing, Kind, Target};
use crate::store::check::finding::{Finding, State, Subject};
use crate::store::check::node::Place;
use crate::store::check::{Check, Mode};
use crate::store::xattr::SEALED_PREFIX;

/// Names and values in plaintext.
pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

impl<B: Backing> Check<'_, B> {
    /// Opens all attributes of an object; `id` is what the sealed ones are bound to, if that is known.
    pub(super) fn check_xattrs(
        &self,
        place: &Place<'_, B>,
        target: Target<'_, B>,
        id: Option<&[u8]>,
    ) -> Attributes {
        let backing = self.volume.backing();
        // A filesystem without attributes has none that could be damaged.
        let Ok(listed) = backing.list_xattrs(target) else {
            return Vec::new();
        };
        let mut opened = Vec::new();
        for name in listed.split(|b| *b == 0).filter(|n| !n.is_empty()) {
            let value = match backing.get_xattr(target, name) {
                Ok(value) => value,
                Err(e) if e.raw_os_error() == Some(libc::ENODATA) => continue,
                Err(e) => {
                    let said = format!("an attribute cannot be read: {e}");
                    self.unreadable(place, Subject::Attribute, said);
                    continue;
                }
            };
            if !name.starts_with(SEALED_PREFIX) {
                if !name.starts_with(b"user.") {
                    opened.push((name.to_vec(), value));
                }
                continue;
            }
            let text = std::str::from_utf8(name).ok();
            let names = self.volume.keys().names();
            let plain = match (id, text) {
                (Some(id), Some(name)) => names.open_xattr(id, name, &value).ok(),
                // The object itself was told.
                (None, _) => continue,
                (_, None) => None,
            };
            match plain {
                Some(plain) => opened.push(plain),
                None => self.tell_unopened_attribute(place, target, name),
            }
        }
        opened
    }

    /// An attribute may be left of a file whose first header, with the id that it is bound to, was lost in a crash.
    fn tell_unopened_attribute(&self, place: &Place<'_, B>, target: Target<'_, B>, name: &[u8]) {
        let shown = String::from_utf8_lossy(name);
        let said = format!("the attribute stored as {shown} does not authenticate");
        let mut finding = Finding::at(place, State::Damaged, Subject::Attribute, said);
        let backing = self.volume.backing();
        let attr = backing.stat(target);
        if attr.is_ok_and(|a| a.kind() == Kind::File && self.volume.is_crash_leftover(&a)) {
            finding.crash_left();
            if self.plan.mode == Mode::Repair {
                match backing.remove_xattr(target, name) {
                    Ok(()) => finding.state = State::Repaired,
                    Err(e) => finding.detail += &format!("; it could not be removed: {e}"),
                }
            }
        }
        self.tell(finding);
    }
}
