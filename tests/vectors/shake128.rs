//! SHAKE128 (FIPS 202), for one published test that is defined with it. Not constant time, not for anything else.

pub struct Shake128 {
    state: [u64; 25],
    at: usize,
    squeezing: bool,
}

const RATE: usize = 168;

impl Shake128 {
    pub fn new() -> Self {
        Self {
            state: [0; 25],
            at: 0,
            squeezing: false,
        }
    }

    pub fn absorb(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.xor(self.at, *byte);
            self.at += 1;
            if self.at == RATE {
                keccak_f(&mut self.state);
                self.at = 0;
            }
        }
    }

    pub fn squeeze<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.squeeze_byte())
    }

    pub fn squeeze_vec(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.squeeze_byte()).collect()
    }

    fn squeeze_byte(&mut self) -> u8 {
        if !self.squeezing {
            self.xor(self.at, 0x1f);
            self.xor(RATE - 1, 0x80);
            self.squeezing = true;
            self.at = RATE;
        }
        if self.at == RATE {
            keccak_f(&mut self.state);
            self.at = 0;
        }
        self.at += 1;
        (self.state[(self.at - 1) / 8] >> (8 * ((self.at - 1) % 8))) as u8
    }

    fn xor(&mut self, at: usize, byte: u8) {
        self.state[at / 8] ^= u64::from(byte) << (8 * (at % 8));
    }
}

fn keccak_f(a: &mut [u64; 25]) {
    let mut lfsr = 1u8;
    for _ in 0..24 {
        let c: [u64; 5] = std::array::from_fn(|x| (0..5).fold(0, |s, y| s ^ a[x + 5 * y]));
        for i in 0..25 {
            a[i] ^= c[(i + 4) % 5] ^ c[(i + 1) % 5].rotate_left(1);
        }
        let (mut x, mut y, mut lane) = (1, 0, a[1]);
        for t in 1..=24u32 {
            (x, y) = (y, (2 * x + 3 * y) % 5);
            lane = std::mem::replace(&mut a[x + 5 * y], lane.rotate_left(t * (t + 1) / 2 % 64));
        }
        for y in 0..5 {
            let row: [u64; 5] = std::array::from_fn(|x| a[x + 5 * y]);
            for x in 0..5 {
                a[x + 5 * y] = row[x] ^ (!row[(x + 1) % 5] & row[(x + 2) % 5]);
            }
        }
        for j in 0..7 {
            if lfsr & 1 != 0 {
                a[0] ^= 1 << ((1 << j) - 1);
            }
            lfsr = (lfsr << 1) ^ ((lfsr >> 7) * 0x71);
        }
    }
}
