//! Mount options: what may stand after `-o`, what each word means, and who may ask for it.
//!
//! Pure text in, settings out; nothing is mounted here and the system is not asked anything.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Long, because the daemon holds the vault's lock and is the only one that changes it: the kernel need not ask again.
const EXCLUSIVE_LIFETIME: Duration = Duration::from_secs(3600);
/// Short, because with `shared` a sync tool may change the vault at any time.
const SHARED_LIFETIME: Duration = Duration::from_secs(1);
const LONGEST_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
const DEFAULT_THREADS: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");
/// Each thread owns a request buffer of 16 MiB (of which it touches as much as the largest request needs).
const MOST_THREADS: usize = 64;

/// How a vault is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// No change through the mount, and none to the vault. The default is `rw`.
    pub read_only: bool,
    /// Users other than the mounting one may enter. The default is that they may not.
    pub allow_other: bool,
    /// File modes are checked for root too, who may have given up the right to ignore them. The default is that they are
    /// checked for all others.
    pub default_permissions: bool,
    /// Device nodes on the mount work. The default is `nodev`; only root may ask for `dev`.
    pub dev: bool,
    /// Set-user-id and file capabilities are honoured. The default is `nosuid`; only root may ask for `suid`.
    pub suid: bool,
    /// Programs on the mount can be run. The default is `exec`.
    pub exec: bool,
    /// Reading does not change access times, neither here nor of the files in the vault. The default is `relatime`.
    pub noatime: bool,
    /// POSIX access control lists are stored and enforced. The default is that they are not.
    pub acl: bool,
    /// First column of the mount table. The default is the path of the vault.
    pub fsname: Option<String>,
    /// Requests worked on at the same time. The default is 4.
    pub threads: NonZeroUsize,
    /// How long the kernel may remember that a name exists. The default is 1 hour, 1 second with `shared`.
    pub entry_timeout: Duration,
    /// How long the kernel may remember size, mode and times. The default is 1 hour, 1 second with `shared`.
    pub attr_timeout: Duration,
    /// How long the kernel may remember that a name does not exist. The default is 1 hour, 1 second with `shared`.
    pub negative_timeout: Duration,
    /// The kernel collects small writes before it hands them over. The default is on, off with `shared`.
    pub writeback: bool,
    /// The vault may be changed by something else while it is mounted. The default is that it is not.
    pub shared: bool,
}

impl Default for MountOptions {
    fn default() -> Self {
        Typed::default().settle()
    }
}

/// Who mounts, as far as the options care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    Root,
    /// An ordinary user; `fusermount3` asks `/etc/fuse.conf` whether such a user may let others in.
    User {
        may_allow_other: bool,
    },
}

/// Why the options were refused. Every variant names the option as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionError {
    Unknown {
        name: String,
        meant: Option<&'static str>,
    },
    NeedsValue {
        name: String,
        expected: &'static str,
    },
    TakesNoValue {
        name: String,
    },
    BadValue {
        name: String,
        value: String,
        expected: &'static str,
    },
    NeedsRoot {
        name: &'static str,
    },
    NeedsUserAllowOther,
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, meant: Some(meant) } => {
                write!(f, "unknown mount option '{name}'; did you mean '{meant}'?")
            }
            Self::Unknown { name, meant: None } => write!(f, "unknown mount option '{name}'"),
            Self::NeedsValue { name, expected } => {
                write!(f, "mount option '{name}' needs a value: {name}={expected}")
            }
            Self::TakesNoValue { name } => write!(f, "mount option '{name}' takes no value"),
            Self::BadValue { name, value, expected } => {
                write!(f, "mount option '{name}={value}': expected {expected}")
            }
            Self::NeedsRoot { name } => write!(f, "mount option '{name}' is for root only"),
            Self::NeedsUserAllowOther => f.write_str(
                "mount option 'allow_other' is not permitted to ordinary users here; \
                 the administrator can permit it with the line 'user_allow_other' in /etc/fuse.conf",
            ),
        }
    }
}

impl std::error::Error for OptionError {}

impl MountOptions {
    /// Reads the lists given after `-o`, in order; of contradicting words the last one counts. A backslash keeps
    /// the comma after it from ending the option.
    pub fn parse<S: AsRef<str>>(lists: &[S]) -> Result<Self, OptionError> {
        let mut typed = Typed::default();
        for list in lists {
            for option in split_list(list.as_ref()) {
                let (name, value) = match option.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (option.as_str(), None),
                };
                typed.take(name, value)?;
            }
        }
        Ok(typed.settle())
    }

    /// Whether `caller` may ask for these options.
    pub fn check_permitted(&self, caller: Caller) -> Result<(), OptionError> {
        let Caller::User { may_allow_other } = caller else {
            return Ok(());
        };
        if self.dev {
            return Err(OptionError::NeedsRoot { name: "dev" });
        }
        if self.suid {
            return Err(OptionError::NeedsRoot { name: "suid" });
        }
        if self.allow_other && !may_allow_other {
            return Err(OptionError::NeedsUserAllowOther);
        }
        Ok(())
    }
}

/// The words as they come; defaults that depend on other words are filled in at the end.
#[derive(Debug, Default)]
struct Typed {
    read_only: bool,
    allow_other: bool,
    default_permissions: bool,
    dev: bool,
    suid: bool,
    noexec: bool,
    noatime: bool,
    acl: bool,
    shared: bool,
    fsname: Option<String>,
    threads: Option<NonZeroUsize>,
    entry_timeout: Option<Duration>,
    attr_timeout: Option<Duration>,
    negative_timeout: Option<Duration>,
    writeback: Option<bool>,
}

/// Every word, for suggestions; the ones that take a value end in `=`.
const WORDS: [&str; 26] = [
    "ro",
    "rw",
    "allow_other",
    "default_permissions",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "noexec",
    "atime",
    "noatime",
    "relatime",
    "acl",
    "noacl",
    "shared",
    "writeback",
    "nowriteback",
    "fsname=",
    "threads=",
    "entry_timeout=",
    "attr_timeout=",
    "negative_timeout=",
    "defaults",
    "nofail",
    "_netdev",
];

/// Words for mount(8), systemd and `/etc/fstab` that mean nothing to a filesystem.
const FOR_OTHERS: [&str; 11] = [
    "defaults", "auto", "noauto", "user", "users", "nouser", "owner", "group", "nofail", "_netdev",
    "async",
];

const SECONDS: &str = "SECONDS";
const A_DURATION: &str = "seconds, or a number with s, m or h, at most a year";
const A_THREAD_COUNT: &str = "a number from 1 to 64";

impl Typed {
    fn take(&mut self, name: &str, value: Option<&str>) -> Result<(), OptionError> {
        if FOR_OTHERS.contains(&name) || name.starts_with("x-") || name == "comment" {
            return Ok(());
        }
        match name {
            "fsname" => {
                self.fsname = Some(required(name, value, "NAME")?.to_owned());
                return Ok(());
            }
            "threads" => {
                self.threads = Some(threads(name, required(name, value, "N")?)?);
                return Ok(());
            }
            "entry_timeout" => {
                self.entry_timeout = Some(lifetime(name, required(name, value, SECONDS)?)?);
                return Ok(());
            }
            "attr_timeout" => {
                self.attr_timeout = Some(lifetime(name, required(name, value, SECONDS)?)?);
                return Ok(());
            }
            "negative_timeout" => {
                self.negative_timeout = Some(lifetime(name, required(name, value, SECONDS)?)?);
                return Ok(());
            }
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "allow_other" => self.allow_other = true,
            "default_permissions" => self.default_permissions = true,
            "dev" => self.dev = true,
            "nodev" => self.dev = false,
            "suid" => self.suid = true,
            "nosuid" => self.suid = false,
            "exec" => self.noexec = false,
            "noexec" => self.noexec = true,
            "atime" | "relatime" => self.noatime = false,
            "noatime" => self.noatime = true,
            "acl" => self.acl = true,
            "noacl" => self.acl = false,
            "shared" => self.shared = true,
            "writeback" => self.writeback = Some(true),
            "nowriteback" => self.writeback = Some(false),
            _ => {
                return Err(OptionError::Unknown {
                    name: name.to_owned(),
                    meant: closest(name),
                });
            }
        }
        match value {
            Some(_) => Err(OptionError::TakesNoValue {
                name: name.to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn settle(self) -> MountOptions {
        let lifetime = if self.shared {
            SHARED_LIFETIME
        } else {
            EXCLUSIVE_LIFETIME
        };
        MountOptions {
            read_only: self.read_only,
            allow_other: self.allow_other,
            default_permissions: self.default_permissions,
            dev: self.dev,
            suid: self.suid,
            exec: !self.noexec,
            noatime: self.noatime,
            acl: self.acl,
            fsname: self.fsname,
            threads: self.threads.unwrap_or(DEFAULT_THREADS),
            entry_timeout: self.entry_timeout.unwrap_or(lifetime),
            attr_timeout: self.attr_timeout.unwrap_or(lifetime),
            negative_timeout: self.negative_timeout.unwrap_or(lifetime),
            writeback: self.writeback.unwrap_or(!self.shared),
            shared: self.shared,
        }
    }
}

/// Splits at commas that no backslash precedes, drops the backslashes and empty parts.
fn split_list(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        let part = parts.last_mut().expect("there is always a part");
        match c {
            ',' => parts.push(String::new()),
            '\\' => part.push(chars.next().unwrap_or('\\')),
            _ => part.push(c),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn required<'v>(
    name: &str,
    value: Option<&'v str>,
    expected: &'static str,
) -> Result<&'v str, OptionError> {
    value
        .filter(|v| !v.is_empty())
        .ok_or_else(|| OptionError::NeedsValue {
            name: name.to_owned(),
            expected,
        })
}

fn threads(name: &str, value: &str) -> Result<NonZeroUsize, OptionError> {
    value
        .parse()
        .ok()
        .filter(|n: &NonZeroUsize| n.get() <= MOST_THREADS)
        .ok_or_else(|| OptionError::BadValue {
            name: name.to_owned(),
            value: value.to_owned(),
            expected: A_THREAD_COUNT,
        })
}

fn lifetime(name: &str, value: &str) -> Result<Duration, OptionError> {
    let (number, unit) = match value.as_bytes().last() {
        Some(b's') => (&value[..value.len() - 1], 1.0),
        Some(b'm') => (&value[..value.len() - 1], 60.0),
        Some(b'h') => (&value[..value.len() - 1], 3600.0),
        _ => (value, 1.0),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|n| Duration::try_from_secs_f64(n * unit).ok())
        .filter(|d| *d <= LONGEST_LIFETIME)
        .ok_or_else(|| OptionError::BadValue {
            name: name.to_owned(),
            value: value.to_owned(),
            expected: A_DURATION,
        })
}

fn closest(name: &str) -> Option<&'static str> {
    WORDS
        .iter()
        .map(|word| {
            (
                strsim::damerau_levenshtein(name, word.trim_end_matches('=')),
                *word,
            )
        })
        .min()
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<MountOptions, OptionError> {
        MountOptions::parse(&[list])
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let options = MountOptions::default();
        assert!(
            !options.read_only
                && !options.allow_other
                && !options.dev
                && !options.suid
                && options.exec
        );
        assert!(!options.noatime && !options.acl && options.writeback && !options.shared);
        assert_eq!(options.threads.get(), 4);
        for lifetime in [
            options.entry_timeout,
            options.attr_timeout,
            options.negative_timeout,
        ] {
            assert_eq!(lifetime, Duration::from_secs(3600));
        }
    }

    #[test]
    fn every_word_is_understood() {
        let options = parse(
            "ro,allow_other,dev,suid,noexec,noatime,acl,fsname=scans,threads=2,entry_timeout=5,attr_timeout=2.5,\
             negative_timeout=1m,nowriteback",
        )
        .expect("all known");
        assert!(
            options.read_only
                && options.allow_other
                && options.dev
                && options.suid
                && !options.exec
        );
        assert!(options.noatime && options.acl && !options.writeback);
        assert_eq!(options.fsname.as_deref(), Some("scans"));
        assert_eq!(options.threads.get(), 2);
        assert_eq!(options.entry_timeout, Duration::from_secs(5));
        assert_eq!(options.attr_timeout, Duration::from_millis(2500));
        assert_eq!(options.negative_timeout, Duration::from_secs(60));
    }

    #[test]
    fn every_suggested_word_is_accepted() {
        for word in WORDS {
            let value = if word.ends_with('=') { "1" } else { "" };
            parse(&format!("{word}{value}")).unwrap_or_else(|e| panic!("{word}: {e}"));
        }
    }

    #[test]
    fn the_last_of_contradicting_words_counts_also_across_lists() {
        assert!(!parse("ro,rw").expect("known").read_only);
        assert!(MountOptions::parse(&["nodev", "dev"]).expect("known").dev);
    }

    #[test]
    fn shared_shortens_the_lifetimes_and_stops_writeback_unless_told() {
        let options = parse("shared").expect("known");
        assert_eq!(options.attr_timeout, Duration::from_secs(1));
        assert_eq!(options.negative_timeout, Duration::from_secs(1));
        assert!(!options.writeback);
        let told = parse("entry_timeout=9,writeback,shared").expect("known");
        assert_eq!(told.entry_timeout, Duration::from_secs(9));
        assert!(told.writeback);
    }

    #[test]
    fn words_for_mount_and_systemd_are_ignored() {
        let list =
            "defaults,noauto,auto,user,users,_netdev,nofail,x-systemd.automount,x-gvfs-name=A,,";
        assert_eq!(parse(list), Ok(MountOptions::default()));
    }

    #[test]
    fn an_unknown_word_is_refused_by_name_with_the_nearest_known_one() {
        let say = |list| parse(list).expect_err("unknown").to_string();
        assert_eq!(
            say("ro,alow_other"),
            "unknown mount option 'alow_other'; did you mean 'allow_other'?"
        );
        assert_eq!(
            say("thread=3"),
            "unknown mount option 'thread'; did you mean 'threads='?"
        );
        assert_eq!(say("compress"), "unknown mount option 'compress'");
    }

    #[test]
    fn a_value_is_wanted_where_it_belongs_and_nowhere_else() {
        assert!(matches!(
            parse("fsname"),
            Err(OptionError::NeedsValue { .. })
        ));
        assert!(matches!(
            parse("fsname="),
            Err(OptionError::NeedsValue { .. })
        ));
        assert!(matches!(
            parse("ro=1"),
            Err(OptionError::TakesNoValue { .. })
        ));
        for bad in [
            "threads=0",
            "threads=65",
            "threads=x",
            "attr_timeout=-1",
            "attr_timeout=nan",
            "entry_timeout=1e99",
        ] {
            assert!(
                matches!(parse(bad), Err(OptionError::BadValue { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_backslash_keeps_a_comma_in_a_value() {
        assert_eq!(
            parse(r"fsname=a\,b\\c,ro")
                .expect("known")
                .fsname
                .as_deref(),
            Some(r"a,b\c")
        );
    }

    #[test]
    fn what_only_root_may_ask_for() {
        let user = Caller::User {
            may_allow_other: false,
        };
        assert!(
            parse("dev,suid,allow_other")
                .expect("known")
                .check_permitted(Caller::Root)
                .is_ok()
        );
        for (list, word) in [
            ("dev", "'dev'"),
            ("suid", "'suid'"),
            ("allow_other", "user_allow_other"),
        ] {
            let refusal = parse(list)
                .expect("known")
                .check_permitted(user)
                .expect_err("refused");
            assert!(refusal.to_string().contains(word));
        }
        let permitted = Caller::User {
            may_allow_other: true,
        };
        assert!(
            parse("allow_other")
                .expect("known")
                .check_permitted(permitted)
                .is_ok()
        );
    }
}
