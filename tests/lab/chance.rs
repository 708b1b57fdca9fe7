//! Reproducible random choices.

use std::time::{Duration, SystemTime};

use libtest_mimic::Failed;

/// Xorshift generator, reproducible from its seed.
pub(crate) struct Chance(u64);

impl Chance {
    /// Returns the seed from the environment, or a new one.
    pub(crate) fn seed() -> Result<u64, Failed> {
        match std::env::var("PEERPATH_LAB_SOAK_SEED") {
            Ok(text) => {
                Ok(text.parse().map_err(|_| format!("invalid PEERPATH_LAB_SOAK_SEED={text}: expected a number"))?)
            }
            Err(_) => Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs()),
        }
    }

    pub(crate) fn new(seed: u64) -> Self {
        // Mix the seed, so that adjacent seeds yield different sequences. A state of zero would stay zero.
        let mut this = Self((seed ^ 0x9e37_79b9_7f4a_7c15).max(1));
        for _ in 0..16 {
            this.next();
        }
        this
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a random number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Returns a random element.
    pub(crate) fn of<T: Copy>(&mut self, several: &[T]) -> T {
        several[self.below(several.len() as u64) as usize]
    }

    /// Returns a random duration below `max`.
    pub(crate) fn time(&mut self, max: Duration) -> Duration {
        Duration::from_millis(self.below(max.as_millis() as u64))
    }
}
