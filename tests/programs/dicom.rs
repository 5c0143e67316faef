//! An imaging department: four modalities send to one archive that stores in the vault.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;

use crate::common::{TempDir, Vault, run};
use crate::support::{Server, command, files_below, installed, is_root, noise, read, write};

const SENDERS: u16 = 4;
const IMAGES: u16 = 16;
const SIDE: u16 = 512;
const PORT: &str = "11112";
const ROOT: &str = "1.2.826.0.1.3680043.8.498.77";

/// A CT slice of 512 x 512 pixels in 16 bits, about 0.5 MiB; gives its pixels.
fn make_slice(scratch: &Path, sender: u16, number: u16) -> (PathBuf, Vec<u8>) {
    let name = format!("ct{sender}-{number}");
    let raw = scratch.join(format!("{name}.raw"));
    let mut pixels = noise(
        u64::from(sender * IMAGES + number),
        usize::from(SIDE) * usize::from(SIDE) * 2,
    );
    // 12 bits are stored in 16.
    pixels
        .iter_mut()
        .skip(1)
        .step_by(2)
        .for_each(|high| *high &= 0x0f);
    write(&raw, &pixels);
    let dump = scratch.join(format!("{name}.dump"));
    let series = format!("{ROOT}.{sender}");
    write(
        &dump,
        format!(
            "(0008,0016) UI =CTImageStorage\n(0008,0018) UI [{series}.{number}]\n(0008,0060) CS [CT]\n\
             (0010,0010) PN [Test^Patient {sender}]\n(0010,0020) LO [P{sender}]\n\
             (0020,000d) UI [{ROOT}.0]\n(0020,000e) UI [{series}]\n(0020,0013) IS [{number}]\n\
             (0028,0002) US 1\n(0028,0004) CS [MONOCHROME2]\n(0028,0010) US {SIDE}\n(0028,0011) US {SIDE}\n\
             (0028,0100) US 16\n(0028,0101) US 12\n(0028,0102) US 11\n(0028,0103) US 0\n\
             (7fe0,0010) OW ={}\n",
            raw.display()
        ),
    );
    let file = scratch.join(format!("{name}.dcm"));
    run(command("dump2dcm")
        .args(["-q", "+te"])
        .arg(&dump)
        .arg(&file))
    .ok();
    (file, pixels)
}

/// A colour photograph, from a bitmap.
fn make_photograph(scratch: &Path) -> PathBuf {
    let (width, height) = (64_u32, 48_u32);
    let pixels = noise(99, (width * height * 3) as usize);
    let mut bitmap = b"BM".to_vec();
    let header = [
        54 + width * height * 3,
        0,
        54,
        40,
        width,
        height,
        1 | 24 << 16,
        0,
        width * height * 3,
        2835,
        2835,
        0,
        0,
    ];
    bitmap.extend(header.iter().flat_map(|word| word.to_le_bytes()));
    bitmap.extend(pixels);
    let source = scratch.join("photo.bmp");
    write(&source, bitmap);
    let file = scratch.join("photo.dcm");
    run(command("img2dcm")
        .args(["-q", "-i", "BMP"])
        .arg(&source)
        .arg(&file))
    .ok();
    run(command("dcmodify").args(["-q", "-nb", "-gin"]).arg(&file)).ok();
    file
}

fn instance_uid(file: &Path) -> String {
    let dump = run(command("dcmdump").args(["-q", "+P", "0008,0018"]).arg(file)).ok();
    let start = dump.find('[').expect("a UID in brackets");
    let end = dump.find(']').expect("a UID in brackets");
    dump[start + 1..end].to_owned()
}

/// The pixels as a viewer shows them.
fn rendered(file: &Path) -> Vec<u8> {
    let output = command("dcm2pnm")
        .args(["-q", "+Wm", "--write-16-bit-pnm"])
        .arg(file)
        .output()
        .expect("dcmtk is installed");
    assert!(
        output.status.success() && !output.stdout.is_empty(),
        "{}: {output:?}",
        file.display()
    );
    output.stdout
}

fn send(archive: &Server, files: &[PathBuf]) -> Child {
    let mut sender = archive.client("storescu");
    sender
        .args(["-q", "--propose-little", "127.0.0.1", PORT])
        .args(files)
        .spawn()
        .expect("dcmtk is installed")
}

#[test]
fn images_from_four_senders_at_once_are_the_same_pixel_for_pixel_after_a_remount() {
    let programs = [
        "dump2dcm", "img2dcm", "dcmodify", "dcmdump", "dcm2pnm", "storescp", "storescu", "echoscu",
    ];
    if !installed("dcmtk", &programs) || !is_root("make a network namespace") {
        return;
    }
    let outside = TempDir::new();
    let scratch = outside.dir("images");
    let mut sent = BTreeMap::new();
    let mut batches: Vec<Vec<PathBuf>> = Vec::new();
    for sender in 1..=SENDERS {
        let slices = (1..=IMAGES).map(|number| {
            let (file, pixels) = make_slice(&scratch, sender, number);
            sent.insert(format!("{ROOT}.{sender}.{number}"), (file.clone(), pixels));
            file
        });
        batches.push(slices.collect());
    }
    let photograph = make_photograph(&scratch);
    sent.insert(instance_uid(&photograph), (photograph.clone(), Vec::new()));
    batches[0].push(photograph);

    let vault = Vault::new();
    let mount = vault.mount();
    let archive_dir = mount.join("archive");
    fs::create_dir(&archive_dir).expect("writable");
    let line = format!("exec storescp --fork -aet ARCHIVE --output-directory . {PORT}");
    let archive = Server::start(&archive_dir, &line, &outside.join("storescp.log"));
    archive.wait_ready("echoscu", &["-q", "127.0.0.1", PORT]);
    let senders: Vec<Child> = batches.iter().map(|batch| send(&archive, batch)).collect();
    for mut sender in senders {
        assert!(
            sender.wait().expect("it was started here").success(),
            "a sender was refused"
        );
    }
    archive.stop();
    mount.umount();

    let mount = vault.mount_with(&["-o", "ro"]);
    let received = files_below(&mount.join("archive"));
    assert_eq!(received.len(), sent.len());
    for file in received {
        let uid = instance_uid(&file);
        let (source, pixels) = sent
            .remove(&uid)
            .unwrap_or_else(|| panic!("{uid} was not sent, or is there twice"));
        assert!(
            read(&file).ends_with(&pixels),
            "the pixel data of {uid} is not what was sent"
        );
        assert!(
            rendered(&file) == rendered(&source),
            "{uid} looks different"
        );
    }
    mount.umount();
}
