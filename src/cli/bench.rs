//! `wardfs bench`: how fast the ciphers and the key derivation are on this machine.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::output::{print, print_json};
use crate::crypto::{
    ChunkFlags, ChunkNo, Cipher, DirId, Epoch, FileKeys, VolumeKey, VolumeKeys, WriteSeq, rand,
};
use crate::format::file::CHUNK_OVERHEAD;
use crate::format::keyring::Keyring;
use crate::keys::header::new_content_root;
use crate::keys::kdf::{Argon2Params, KdfError};
use crate::sys::secret::harden_process;

/// Binary logarithms of the chunk sizes of the format.
const CHUNKS: [u8; 5] = [12, 13, 14, 15, 16];
/// Memory in MiB and passes.
const DERIVATIONS: [(u32, u32); 4] = [(64, 3), (256, 3), (512, 3), (1024, 4)];
const NAME: &[u8] = b"IM-0001-0042-0001.dcm";

/// Measure the ciphers and the key derivation on this machine
///
/// Ciphers are measured in memory on one core, exactly as the filesystem uses them: one chunk at a time, each with
/// its own nonce. A mount is slower, since every request also goes through the kernel and to the disk.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs bench
  wardfs bench --seconds 0.1 --json")]
pub struct BenchArgs {
    /// How long each cipher is measured at each chunk size
    #[arg(long, value_name = "SECONDS", default_value = "0.25", value_parser = seconds)]
    seconds: Duration,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|n: f64| Duration::try_from_secs_f64(n).ok())
        .filter(|d| (Duration::from_millis(1)..=Duration::from_secs(60)).contains(d))
        .ok_or_else(|| "use a number from 0.001 to 60".to_owned())
}

#[derive(Debug, Serialize)]
struct Results {
    default_cipher: &'static str,
    ciphers: Vec<CipherSpeed>,
    /// AES-256-SIV of one file name of 21 bytes.
    name_microseconds: NameSpeed,
    key_derivation: Vec<DerivationTime>,
}

#[derive(Debug, Serialize)]
struct CipherSpeed {
    cipher: &'static str,
    chunk_size: usize,
    seal_mib_per_second: f64,
    open_mib_per_second: f64,
}

#[derive(Debug, Serialize)]
struct NameSpeed {
    seal: f64,
    open: f64,
}

#[derive(Debug, Serialize)]
struct DerivationTime {
    memory_kib: u32,
    time: u32,
    lanes: u32,
    /// None where the machine is short of memory.
    seconds: Option<f64>,
}

pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    harden_process();
    let keys = throwaway_keys();
    if args.json {
        let mut ciphers = Vec::new();
        for_each_cipher(&keys, args.seconds, |speed| {
            ciphers.push(speed);
            Ok(())
        })?;
        let key_derivation = DERIVATIONS
            .map(derivation_time)
            .into_iter()
            .collect::<Result<_, _>>()?;
        return print_json(&Results {
            default_cipher: Cipher::preferred().name(),
            ciphers,
            name_microseconds: name_speed(&keys, args.seconds)?,
            key_derivation,
        });
    }
    print("Content, one core:    chunk   seal MiB/s   open MiB/s\n")?;
    for_each_cipher(&keys, args.seconds, |speed| {
        let CipherSpeed {
            cipher,
            chunk_size,
            seal_mib_per_second: seal,
            open_mib_per_second: open,
        } = speed;
        print(&format!(
            "  {cipher:<18} {:>3} KiB   {seal:>10.0}   {open:>10.0}\n",
            chunk_size / 1024
        ))
    })?;
    let names = name_speed(&keys, args.seconds)?;
    print(&format!(
        "Names:                         seal µs      open µs\n  {:<18}           {:>10.2}   {:>10.2}\n",
        "aes-256-siv", names.seal, names.open
    ))?;
    print("Key derivation:      memory  passes  lanes  seconds for each try\n")?;
    for cost in DERIVATIONS {
        let DerivationTime {
            memory_kib,
            time,
            lanes,
            seconds,
        } = derivation_time(cost)?;
        let seconds = seconds.map_or_else(|| "too little memory".to_owned(), |s| format!("{s:.2}"));
        print(&format!(
            "  {:<14} {:>6} MiB  {time:>6}  {lanes:>5}  {seconds}\n",
            "argon2id",
            memory_kib / 1024
        ))?;
    }
    print(&format!(
        "A new vault here gets {} and a key derivation of about one second.\n",
        Cipher::preferred()
    ))
}

/// Keys of a volume that exists only here.
fn throwaway_keys() -> Arc<VolumeKeys> {
    let epoch = Epoch(0);
    let keyring = Keyring {
        current: epoch,
        roots: vec![new_content_root(epoch)],
        tree: None,
    };
    Arc::new(VolumeKeys::new(&VolumeKey::generate(), keyring))
}

fn for_each_cipher(
    keys: &Arc<VolumeKeys>,
    time: Duration,
    mut report: impl FnMut(CipherSpeed) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for cipher in Cipher::ALL {
        for log2_chunk in CHUNKS {
            let (_, file) = keys.new_file(cipher, log2_chunk);
            report(cipher_speed(&file, cipher, 1 << log2_chunk, time)?)?;
        }
    }
    Ok(())
}

fn cipher_speed(
    file: &FileKeys,
    cipher: Cipher,
    chunk_size: usize,
    time: Duration,
) -> Result<CipherSpeed, Failure> {
    let mut plain = vec![0; chunk_size];
    let mut sealed = vec![0; chunk_size + CHUNK_OVERHEAD];
    let flags = ChunkFlags::default();
    let mut random = [0; 16];
    let mut number = 0;
    let seal = per_second(time, || {
        rand::fill(&mut random);
        number += 1;
        file.seal(
            ChunkNo(number),
            WriteSeq(number),
            flags,
            &random,
            &plain,
            &mut sealed,
        );
        black_box(&sealed);
        true
    });
    let open = per_second(time, || {
        file.open(ChunkNo(number), &sealed, &mut plain).is_ok()
    });
    let mib = chunk_size as f64 / f64::from(1 << 20);
    let rate = |chunks: Option<f64>| chunks.map(|n| n * mib).ok_or_else(broken);
    Ok(CipherSpeed {
        cipher: cipher.name(),
        chunk_size,
        seal_mib_per_second: rate(seal)?,
        open_mib_per_second: rate(open)?,
    })
}

fn name_speed(keys: &VolumeKeys, time: Duration) -> Result<NameSpeed, Failure> {
    let dir = DirId([7; 16]);
    let entry = keys.names().seal(&dir, NAME).entry;
    let seal = per_second(time, || {
        black_box(keys.names().seal(&dir, NAME));
        true
    });
    let open = per_second(time, || keys.names().open(&dir, entry.as_ref()).is_ok());
    let microseconds = |rate: Option<f64>| rate.map(|n| 1e6 / n).ok_or_else(broken);
    Ok(NameSpeed {
        seal: microseconds(seal)?,
        open: microseconds(open)?,
    })
}

fn derivation_time((memory_mib, time): (u32, u32)) -> Result<DerivationTime, Failure> {
    let lanes = std::thread::available_parallelism().map_or(1, |n| n.get().min(4) as u32);
    let params = Argon2Params {
        memory_kib: memory_mib * 1024,
        time,
        lanes,
    };
    let seconds = match params.measure() {
        Ok(took) => Some(took.as_secs_f64()),
        Err(KdfError::Memory { .. } | KdfError::Refused { .. }) => None,
        Err(e) => return Err(Failure::new(Exit::Failed, e.to_string())),
    };
    Ok(DerivationTime {
        memory_kib: params.memory_kib,
        time,
        lanes,
        seconds,
    })
}

/// How often `work` is done in a second; `None` as soon as it fails once.
fn per_second(at_least: Duration, mut work: impl FnMut() -> bool) -> Option<f64> {
    /// Reading the clock must not count.
    const BATCH: u32 = 16;

    let begin = Instant::now();
    let mut done = 0.0;
    loop {
        for _ in 0..BATCH {
            if !work() {
                return None;
            }
        }
        done += f64::from(BATCH);
        let elapsed = begin.elapsed();
        if elapsed >= at_least {
            return Some(done / elapsed.as_secs_f64());
        }
    }
}

fn broken() -> Failure {
    Failure::new(
        Exit::Failed,
        "what was sealed cannot be opened: this machine computes wrongly",
    )
}
