//! How many requests the kernel sends for what programs do: each is two changes of the running process, which cost more
//! than all the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::common::TempDir;
use crate::fixture::{PLAIN, Place, assert_content, bytes};

/// By the numbers in `linux/fuse.h`.
const NAMES: [(u32, &str); 17] = [
    (1, "lookup"),
    (3, "getattr"),
    (9, "mkdir"),
    (10, "unlink"),
    (11, "rmdir"),
    (12, "rename"),
    (14, "open"),
    (15, "read"),
    (16, "write"),
    (20, "fsync"),
    (22, "getxattr"),
    (27, "opendir"),
    (28, "readdir"),
    (34, "access"),
    (35, "create"),
    (44, "readdirplus"),
    (45, "rename2"),
];

/// Of the daemon, by default.
const THREADS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// strace(1) of what the daemon reads from the kernel.
struct Requests {
    strace: Child,
    dir: TempDir,
}

/// strace(1) at work on the daemon; it ends with that at the latest.
pub fn strace(place: &Place<'_>, options: &[&str], to: &Path) -> Child {
    let mut strace = Command::new("strace")
        .arg("-f")
        .args(options)
        .arg("-p")
        .arg(place.mount().pid().to_string())
        .arg("-o")
        .arg(to)
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace is installed");
    let said = strace.stderr.take().expect("piped");
    let mut said = BufReader::new(said).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("attached")), "strace cannot");
    // Read on, so that it does not block on what it says.
    std::thread::spawn(move || said.for_each(drop));
    strace
}

pub fn detach(mut strace: Child) {
    let pid = strace.id().to_string();
    let ended = Command::new("kill").args(["-INT", &pid]).status();
    assert!(ended.expect("kill(1)").success());
    strace.wait().expect("a child");
}

impl Requests {
    fn of(place: &Place<'_>) -> Self {
        let dir = TempDir::new();
        let shown = ["-y", "-xx", "-s", "8", "-e", "trace=read"];
        let strace = strace(place, &shown, &dir.join("trace"));
        // What a thread of the daemon was waiting for when strace came is not shown: each has to do something first.
        let since = Instant::now();
        while threads_seen(&dir.join("trace")) < THREADS {
            assert!(since.elapsed() < PATIENCE, "some threads never read");
            rustix::fs::statvfs(place.root()).expect("mounted");
        }
        Self { strace, dir }
    }

    /// What has come, as `name*count` in alphabetical order. What nobody waits for (FORGET, RELEASE) is not counted, nor
    /// the SETATTR with which the kernel tells a time that has moved on with its clock.
    fn take(self) -> String {
        detach(self.strace);
        let mut counts = BTreeMap::new();
        let trace = fs::read_to_string(self.dir.join("trace")).expect("strace wrote it");
        for line in trace.lines() {
            let Some(header) = header(line) else { continue };
            let opcode = u32::from_le_bytes(header[4..].try_into().expect("4 bytes"));
            if let Some((_, name)) = NAMES.iter().find(|(number, _)| *number == opcode) {
                *counts.entry(*name).or_insert(0) += 1;
            }
        }
        let counts: Vec<_> = counts.iter().map(|(n, c)| format!("{n}*{c}")).collect();
        counts.join(" ")
    }
}

/// How many threads have read since strace came.
fn threads_seen(trace: &Path) -> usize {
    let trace = fs::read_to_string(trace).unwrap_or_default();
    let pids = trace
        .lines()
        .filter_map(|line| Some(line.split_once(' ')?.0));
    pids.collect::<BTreeSet<_>>().len()
}

/// The first 8 bytes of a request: its length and its opcode. `None` for lines that show no request.
fn header(line: &str) -> Option<Vec<u8>> {
    let (_, shown) = line.split_once('"')?;
    let (shown, rest) = shown.split_once('"')?;
    let bytes: Option<Vec<u8>> = shown
        .split("\\x")
        .skip(1)
        .map(|hex| u8::from_str_radix(hex, 16).ok())
        .collect();
    // A request says its own length.
    let bytes = bytes.filter(|bytes| bytes.len() == 8)?;
    let len = u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"));
    rest.ends_with(&format!("= {len}")).then_some(bytes)
}

/// The requests of `work` on a mount that knows nothing of what `prepare` made, but the attributes of the root.
fn requests(prepare: impl FnOnce(&Place<'_>), work: impl FnOnce(&Place<'_>)) -> String {
    let mut counted = String::new();
    PLAIN.run(|place| {
        prepare(place);
        place.remount();
        fs::metadata(place.root()).expect("mounted");
        let requests = Requests::of(place);
        work(place);
        counted = requests.take();
    });
    counted
}

fn make_small(place: &Place<'_>) {
    fs::write(place.join("file"), bytes(1, 5000)).expect("room");
}

#[test]
fn a_small_file_is_read_without_a_read() {
    let counted = requests(make_small, |place| {
        assert_content(&place.join("file"), &bytes(1, 5000));
    });
    assert_eq!(counted, "lookup*1 open*1");
}

#[test]
fn a_scan_is_read_in_requests_of_128_kib() {
    let content = bytes(3, 512 << 10);
    let make = |place: &Place<'_>| fs::write(place.join("scan"), &content).expect("room");
    let counted = requests(make, |place| {
        let file = File::open(place.join("scan")).expect("there");
        let mut seen = vec![0; content.len()];
        file.read_exact_at(&mut seen, 0).expect("readable");
        assert!(seen == content);
    });
    assert_eq!(counted, "lookup*1 open*1 read*4");
}

#[test]
fn renaming_a_file() {
    let counted = requests(make_small, |place| {
        fs::rename(place.join("file"), place.join("new")).expect("possible");
        fs::metadata(place.join("new")).expect("there");
    });
    // A name that is not there is asked for once.
    assert_eq!(counted, "lookup*2 rename*1");
}

#[test]
fn appending_and_syncing() {
    let counted = requests(make_small, |place| {
        let file = File::options().append(true).open(place.join("file"));
        let mut file = file.expect("there");
        for _ in 0..3 {
            file.write_all(&[7; 200]).expect("room");
            file.sync_data().expect("room");
        }
    });
    // Once the kernel has the last page.
    assert_eq!(counted, "fsync*3 getxattr*1 lookup*1 open*1 read*1 write*3");
}

#[test]
fn what_was_read_is_read_again_from_memory() {
    let content = bytes(2, 3 << 20);
    PLAIN.run(|place| {
        fs::write(place.join("file"), &content).expect("room");
        place.remount();
        assert_content(&place.join("file"), &content);
        let requests = Requests::of(place);
        let mut seen = vec![0; content.len()];
        for _ in 0..3 {
            let file = File::open(place.join("file")).expect("there");
            file.read_exact_at(&mut seen, 0).expect("readable");
            assert!(seen == content);
        }
        assert_eq!(requests.take(), "open*3");
    });
}

#[test]
fn making_writing_and_closing_small_files() {
    let counted = requests(
        |_| (),
        |place| {
            for name in ["one", "two"] {
                let file = File::create_new(place.join(name)).expect("free");
                file.write_all_at(&[1; 4096], 0).expect("room");
            }
        },
    );
    assert_eq!(counted, "create*2 getxattr*2 lookup*2 write*2");
}

#[test]
fn looking_again_asks_nothing() {
    let counted = requests(make_small, |place| {
        for _ in 0..3 {
            fs::metadata(place.join("file")).expect("there");
            fs::metadata(place.join("missing")).expect_err("not there");
        }
    });
    assert_eq!(counted, "lookup*2");
}

#[test]
fn a_second_listing_reads_no_entries() {
    let counted = requests(
        |place| {
            for i in 0..20 {
                fs::write(place.join(i.to_string()), b"").expect("room");
            }
        },
        |place| {
            let list = || fs::read_dir(place.root()).expect("there").count();
            assert_eq!(list(), 20);
            assert_eq!(list(), 20);
        },
    );
    // opendir(3) asks for attributes, of which the first listing has changed one.
    assert_eq!(counted, "getattr*1 opendir*2 readdir*1 readdirplus*1");
}

/// A writer may open the file at any moment, also while its content is on the way to the kernel.
#[test]
fn a_reader_never_brings_back_what_a_writer_has_replaced() {
    const FILES: usize = 300;
    const SIZE: usize = 20_000;
    let old = |i: usize| bytes(i as u64, SIZE);
    let new = |i: usize| match i % 3 {
        2 => bytes(i as u64, 100),
        _ => bytes(!(i as u64), SIZE),
    };
    let replace = |path: &Path, i: usize| {
        let file = File::options().write(true).open(path).expect("there");
        match i % 3 {
            0 => file.write_all_at(&new(i), 0).expect("room"),
            1 => new(i).chunks(3000).enumerate().for_each(|(n, part)| {
                file.write_all_at(part, n as u64 * 3000).expect("room");
            }),
            _ => file.set_len(100).expect("possible"),
        }
    };
    PLAIN.run(|place| {
        for i in 0..FILES {
            fs::write(place.join(i.to_string()), old(i)).expect("room");
        }
        place.remount();
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..FILES {
                    start.wait();
                    let seen = fs::read(place.join(i.to_string())).expect("readable");
                    assert!([SIZE, 100].contains(&seen.len()), "{} bytes", seen.len());
                }
            });
            for i in 0..FILES {
                start.wait();
                replace(&place.join(i.to_string()), i);
            }
        });
        for _ in 0..2 {
            for i in 0..FILES {
                assert_content(&place.join(i.to_string()), &new(i));
            }
            place.remount();
        }
    });
}
