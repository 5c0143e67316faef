//! Showing a key that nobody has but the person at the terminal: once, as text, and as a QR code if wanted.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cli::qr::{self, Image};
use crate::sys::secret::SecretVec;

/// Groups on a line: what fits on paper and in a terminal.
const GROUPS: usize = 8;

/// As typed.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Printed keys")]
pub struct QrArgs {
    /// Show the recovery key or the shares as QR codes too
    #[arg(long)]
    qr: bool,

    /// Draw the QR code into FILE, a new PNG image; for shares, one image each, FILE-1.png and so on
    #[arg(long, value_name = "FILE")]
    qr_png: Option<PathBuf>,
}

/// Where the keys will be shown; images exist already, empty.
#[derive(Debug)]
pub struct Show {
    qr: bool,
    images: Vec<Image>,
}

impl QrArgs {
    pub fn is_told(&self) -> bool {
        self.qr || self.qr_png.is_some()
    }

    /// For so many keys.
    pub fn prepare(&self, keys: usize) -> Result<Show, Failure> {
        let mut images = Vec::new();
        if let Some(path) = &self.qr_png {
            for number in 1..=keys {
                let path = match keys {
                    1 => path.clone(),
                    _ => numbered(path, number),
                };
                images.push(Image::create(&path)?);
            }
        }
        let qr = self.qr;
        Ok(Show { qr, images })
    }
}

impl Show {
    /// Each key under its title.
    pub fn show(self, keys: &[(String, &SecretVec)]) -> Result<(), Failure> {
        for (title, key) in keys {
            print(&format!("{title}\n\n"))?;
            let text = std::str::from_utf8(key.as_bytes()).unwrap_or_default();
            let groups: Vec<&str> = text.split('-').collect();
            for line in groups.chunks(GROUPS) {
                print(&zeroize::Zeroizing::new(format!(
                    "    {}\n",
                    line.join("-")
                )))?;
            }
            print("\n")?;
            if self.qr {
                print(&qr::text(key.as_bytes())?)?;
            }
        }
        for (image, (_, key)) in self.images.into_iter().zip(keys) {
            image.write(key.as_bytes())?;
        }
        Ok(())
    }
}

/// `shares.png` becomes `shares-2.png`.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(extension) => format!("{stem}-{number}.{}", extension.to_string_lossy()),
        None => format!("{stem}-{number}"),
    };
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_shares_are_numbered_before_the_extension() {
        let name = |path: &str, n| numbered(Path::new(path), n).display().to_string();
        assert_eq!(name("/a/shares.png", 2), "/a/shares-2.png");
        assert_eq!(name("shares", 10), "shares-10");
    }
}
