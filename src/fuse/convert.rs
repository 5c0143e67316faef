//! Between the filesystem's types and those of `fuser`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::store::backing::{Attr, Kind, SetTime, Time};

const BLOCK_SIZE: u32 = 4096;

pub fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

pub fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind()),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev as u32,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

fn system_time(time: Time) -> SystemTime {
    let seconds = Duration::from_secs(time.sec.unsigned_abs());
    let begin = if time.sec < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    begin
        .and_then(|t| t.checked_add(Duration::from_nanos(time.nsec.into())))
        .unwrap_or(UNIX_EPOCH)
}

pub fn set_time(time: Option<TimeOrNow>) -> SetTime {
    match time {
        None => SetTime::Keep,
        Some(TimeOrNow::Now) => SetTime::Now,
        Some(TimeOrNow::SpecificTime(t)) => SetTime::At(requested_time(t)),
    }
}

/// fuser 0.18.0 decodes a time before 1970 as `EPOCH - (seconds, nanoseconds)`, although the nanoseconds count forward;
/// this takes it apart again. Upstream e48279f mends it: then the test `fuser_still_decodes…` in `tests/` fails.
fn requested_time(t: SystemTime) -> Time {
    match t.duration_since(UNIX_EPOCH) {
        Ok(d) => Time {
            sec: d.as_secs() as i64,
            nsec: d.subsec_nanos(),
        },
        Err(before) => {
            let d = before.duration();
            Time {
                sec: 0i64.wrapping_sub_unsigned(d.as_secs()),
                nsec: d.subsec_nanos(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_shown_to_the_nanosecond() {
        let shown = system_time(Time { sec: -2, nsec: 300 });
        let before = UNIX_EPOCH.duration_since(shown).expect("before 1970");
        assert_eq!(before, Duration::new(1, 999_999_700));
    }

    #[test]
    fn a_request_for_a_time_before_1970_is_understood() {
        // What fuser makes of tv_sec = -2, tv_nsec = 300.
        let decoded = UNIX_EPOCH - Duration::new(2, 300);
        assert_eq!(requested_time(decoded), Time { sec: -2, nsec: 300 });
    }
}
