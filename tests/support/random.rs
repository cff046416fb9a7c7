//! Random numbers from a seed (SplitMix64), so that a run's plan can be had again.

use std::ops::Range;

#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// Creates the n-th sequence of a seed.
    pub fn new(seed: u64, n: u64) -> Self {
        let mut random = Self(seed);
        let seed = random.number() ^ n.wrapping_mul(0xD134_2543_DE82_EF95);
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    pub fn is_one_in(&mut self, n: u64) -> bool {
        self.within(0..n) == 0
    }
}
