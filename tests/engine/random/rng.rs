//! A seeded generator of numbers (SplitMix64), so that a failure is its seed.

pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `0 .. bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// In minor units: small ones, and the edges of 64 bits and of money.
    pub fn amount(&mut self) -> i128 {
        const EDGES: [i128; 11] = [
            0,
            1,
            -1,
            1 << 63,
            (1 << 63) - 1,
            -(1 << 63),
            -(1 << 63) - 1,
            10_i128.pow(38) - 1,
            -(10_i128.pow(38) - 1),
            10_i128.pow(38) / 2,
            -(10_i128.pow(38) / 2),
        ];
        if self.percent(25) {
            self.pick(&EDGES)
        } else {
            self.below(200) as i128 - 60
        }
    }
}
