//! The names that workloads use: two directories with two files each, and directories that come and go.

use std::fmt;
use std::str::FromStr;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    A,
    B,
    /// Prepared and empty.
    E,
    /// Free.
    C,
    /// Free, in A.
    Ad,
    /// Prepared with content.
    Ax,
    Bx,
    /// Free.
    Ay,
    /// Free; a name too long for one stored name.
    Bl,
    /// Free, in the new directory C.
    Cf,
}

/// Longer than what fits into a stored name together with what sealing adds.
const LONG: &str = "long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-\
long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long";

use Place::*;

pub const ALL: [Place; 10] = [A, B, E, C, Ad, Ax, Bx, Ay, Bl, Cf];
pub const FILES: [Place; 5] = [Ax, Bx, Ay, Bl, Cf];

impl Place {
    pub fn parent(self) -> Option<Place> {
        match self {
            A | B | E | C => None,
            Ad | Ax | Ay => Some(A),
            Bx | Bl => Some(B),
            Cf => Some(C),
        }
    }

    pub fn name(self) -> &'static [u8] {
        match self {
            Bl => LONG.as_bytes(),
            _ => self.last().as_bytes(),
        }
    }

    fn last(self) -> &'static str {
        match self {
            A => "A",
            B => "B",
            E => "E",
            C => "C",
            Ad => "d",
            Ax | Bx => "x",
            Ay => "y",
            Bl => "long",
            Cf => "f",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent() {
            write!(f, "{parent}/")?;
        }
        f.write_str(self.last())
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ALL.into_iter()
            .find(|p| p.to_string() == text)
            .ok_or_else(|| format!("no place is called {text}"))
    }
}
