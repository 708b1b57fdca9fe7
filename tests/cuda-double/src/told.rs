//! Settings of the double, from the environment.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

pub(crate) struct Told {
    /// Calls that fail: error code, and number of the first call that fails.
    refuse: HashMap<String, (u32, u64)>,
    /// Number of the work item at which the GPU is lost.
    pub(crate) lose: Option<u64>,
    /// Duration of each work item on the GPU's clock, in microseconds.
    pub(crate) takes: Option<u64>,
    pub(crate) spoil: bool,
    pub(crate) gpus: i32,
    pub(crate) version: i32,
}

pub(crate) static TOLD: LazyLock<Told> = LazyLock::new(|| {
    let text = std::env::var("PEERPATH_CUDA_DOUBLE").unwrap_or_default();
    let mut told = Told { refuse: HashMap::new(), lose: None, takes: None, spoil: false, gpus: 1, version: 13_000 };
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse().unwrap_or_else(|_| panic!("PEERPATH_CUDA_DOUBLE: {word} needs a number"));
        match key {
            "refuse" => {
                let mut parts = value.split(':');
                let call = parts.next().unwrap_or_default().to_owned();
                let mut number = |default| parts.next().map_or(default, |text| text.parse().expect("a number"));
                told.refuse.insert(call, (number(801) as u32, number(1)));
            }
            "lose" => told.lose = Some(number()),
            "takes" => told.takes = Some(number()),
            "spoil" => told.spoil = true,
            "gpus" => told.gpus = number() as i32,
            "version" => told.version = number() as i32,
            _ => panic!("PEERPATH_CUDA_DOUBLE: unknown setting {word}"),
        }
    }
    told
});

static TIMES: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

impl Told {
    /// Error code that this call must return, if any.
    pub(crate) fn refusal(&self, call: &str) -> Option<u32> {
        let (code, from) = *self.refuse.get(call)?;
        let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
        let count = times.entry(call.to_owned()).or_default();
        *count += 1;
        (*count >= from).then_some(code)
    }
}
