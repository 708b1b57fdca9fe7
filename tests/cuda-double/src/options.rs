//! Configuration from the environment.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

pub(crate) struct Options {
    /// Calls to refuse, by name: the code, and the number of the first refused call.
    refuse: HashMap<String, (u32, u64)>,
    /// Work item at which the GPU is lost.
    pub(crate) lose: Option<u64>,
    /// Duration of a work item in microseconds of the GPU's clock.
    pub(crate) takes: Option<u64>,
    pub(crate) spoil: bool,
    pub(crate) gpus: i32,
    pub(crate) version: i32,
}

pub(crate) static OPTIONS: LazyLock<Options> = LazyLock::new(|| {
    let text = std::env::var("PEERPATH_CUDA_DOUBLE").unwrap_or_default();
    let mut options =
        Options { refuse: HashMap::new(), lose: None, takes: None, spoil: false, gpus: 1, version: 13_000 };
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse().unwrap_or_else(|_| panic!("{word} needs a number"));
        match key {
            "refuse" => {
                let mut parts = value.split(':');
                let call = parts.next().unwrap_or_default().to_owned();
                let mut number = |default| parts.next().map_or(default, |text| text.parse().expect("a number"));
                options.refuse.insert(call, (number(801) as u32, number(1)));
            }
            "lose" => options.lose = Some(number()),
            "takes" => options.takes = Some(number()),
            "spoil" => options.spoil = true,
            "gpus" => options.gpus = number() as i32,
            "version" => options.version = number() as i32,
            _ => panic!("unknown option {word}"),
        }
    }
    options
});

static TIMES: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

impl Options {
    /// Returns the code for this call if the options refuse it.
    pub(crate) fn refusal(&self, call: &str) -> Option<u32> {
        let (code, from) = *self.refuse.get(call)?;
        let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
        let count = times.entry(call.to_owned()).or_default();
        *count += 1;
        (*count >= from).then_some(code)
    }
}
