//! QR codes of printed keys, on the terminal and as an image.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use qrcode::render::unicode::Dense1x2;
use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

use super::exit::Exit;
use super::failure::Failure;

/// Pixels of a module, and modules around the code: four are part of the standard.
const SCALE: usize = 8;
const QUIET: usize = 4;

/// For a terminal with light text on dark ground, as most are.
pub fn text(key: &[u8]) -> Result<Zeroizing<String>, Failure> {
    let code = code(key)?;
    let drawn = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build();
    Ok(Zeroizing::new(drawn + "\n"))
}

/// A new file for an image, made before the key is, so that no key is made that cannot be shown.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    file: Option<File>,
}

impl Image {
    /// # Errors
    /// Also if there is such a file already.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| Failure::io(format!("make the image {}", path.display()), &e))?;
        Ok(Self {
            path: path.to_owned(),
            file: Some(file),
        })
    }

    pub fn write(mut self, key: &[u8]) -> Result<(), Failure> {
        let code = code(key)?;
        let modules = code.width() + 2 * QUIET;
        let side = modules * SCALE;
        let colors = code.to_colors();
        let is_dark = |x: usize, y: usize| {
            let module = |at: usize| {
                (at / SCALE)
                    .checked_sub(QUIET)
                    .filter(|m| *m < code.width())
            };
            match (module(x), module(y)) {
                (Some(x), Some(y)) => colors[y * code.width() + x] == Color::Dark,
                _ => false,
            }
        };
        let mut pixels = Zeroizing::new(Vec::with_capacity(side * side));
        for y in 0..side {
            pixels.extend((0..side).map(|x| if is_dark(x, y) { 0 } else { 255 }));
        }
        let file = self.file.take().expect("it is written once");
        let write = || -> io::Result<()> {
            let mut encoder = png::Encoder::new(BufWriter::new(&file), side as u32, side as u32);
            encoder.set_color(png::ColorType::Grayscale);
            encoder.set_depth(png::BitDepth::Eight);
            let mut writer = encoder.write_header()?;
            writer.write_image_data(&pixels)?;
            writer.finish()?;
            file.sync_all()
        };
        write().map_err(|e| Failure::io(format!("write the image {}", self.path.display()), &e))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Nothing was written: the key was not made.
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn code(key: &[u8]) -> Result<QrCode, Failure> {
    QrCode::with_error_correction_level(key, EcLevel::M)
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot draw a QR code: {e}")))
}
