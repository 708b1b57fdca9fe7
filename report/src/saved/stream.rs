//! Reads the JSON of a result in one pass. Only one cell at a time is in memory as JSON, and unknown fields of the file are
//! skipped.

use std::fmt;
use std::io::{BufReader, Read};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::bounded::{Bounded, Meter, fields};
use super::cell::{self, SavedCell, SavedRepeat};
use super::error::ReadErrorReason;
use super::memory::MemoryLimit;
use super::object::Object;
use super::repair::Repaired;

/// Fields of a result other than its cells.
const HEADER: [&str; 5] = ["schema_version", "tool", "run", "appended", "environment"];
/// Maximum memory of the header, and of one cell, as JSON values. A cell with 65,536 ranges has 60 MiB.
const MAX_VALUE_BYTES: usize = 128 << 20;
/// Maximum number of cells of a result.
pub(super) const MAX_CELLS: usize = 100_000;

/// The content of a file.
pub(super) struct Content {
    /// The fields of the result, without its cells.
    pub(super) header: Map<String, Value>,
    pub(super) cells: Vec<SavedCell>,
    /// Repairs, each in a sentence without a full stop.
    pub(super) remarks: Vec<String>,
}

/// Reads a file. Its content counts towards `limit`.
pub(super) fn read(file: impl Read, limit: &mut MemoryLimit) -> Result<Content, ReadErrorReason> {
    let mut input = Repaired::new(BufReader::new(file));
    let mut state = State::new(limit);
    let ended = {
        let mut json = serde_json::Deserializer::from_reader(BufReader::new(&mut input));
        Any(TopLevel(&mut state)).deserialize(&mut json).and_then(|()| json.end())
    };
    if let Some(reason) = state.stop {
        return Err(reason);
    }
    state.limit.take(&state.header_meter)?;
    let mut remarks = Vec::new();
    match input.non_finite {
        0 => {}
        1 => remarks.push("ignored 1 number that is NaN or infinite".to_owned()),
        count => remarks.push(format!("ignored {count} numbers that are NaN or infinite")),
    }
    match ended {
        Ok(()) => {}
        Err(error) if error.is_eof() && state.cells.as_ref().is_some_and(|cells| !cells.is_empty()) => {
            remarks.push("the file is truncated: only its complete cells are shown".to_owned());
        }
        Err(error) if error.is_io() => return Err(ReadErrorReason::Io(error.into())),
        Err(_) if input.is_empty => return Err(ReadErrorReason::Empty),
        Err(error) if error.is_eof() => return Err(ReadErrorReason::Truncated),
        Err(error) => {
            return Err(ReadErrorReason::Syntax { line: error.line(), column: error.column(), found: None });
        }
    }
    if !state.is_object {
        return Err(ReadErrorReason::NotAnObject);
    }
    let cells = state.cells.ok_or(ReadErrorReason::NoCells)?;
    let others = state.elements.saturating_sub(cells.len());
    if others > 0 {
        remarks.push(format!("ignored {others} of {} cells: not JSON objects", state.elements));
    }
    Ok(Content { header: state.header, cells, remarks })
}

/// Content that was read so far. It is kept if the file ends early.
struct State<'a> {
    header: Map<String, Value>,
    header_meter: Meter,
    cells: Option<Vec<SavedCell>>,
    /// Number of elements of the list of cells, including those that are not objects.
    elements: usize,
    is_object: bool,
    /// Why reading stopped before the end of the file.
    stop: Option<ReadErrorReason>,
    limit: &'a mut MemoryLimit,
}

impl<'a> State<'a> {
    fn new(limit: &'a mut MemoryLimit) -> Self {
        Self {
            header: Map::new(),
            header_meter: Meter::new(MAX_VALUE_BYTES),
            cells: None,
            elements: 0,
            is_object: false,
            stop: None,
            limit,
        }
    }

    fn stop<E: Error>(&mut self, reason: ReadErrorReason) -> E {
        self.stop = Some(reason);
        E::custom("over a limit")
    }
}

/// Reads a list or an object. By default, a handler ignores both.
trait Handler<'de>: Sized {
    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// The whole file.
struct TopLevel<'a, 'limit>(&'a mut State<'limit>);

impl<'de> Handler<'de> for TopLevel<'_, '_> {
    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let state = self.0;
        state.is_object = true;
        while let Some(name) = object.next_key::<String>()? {
            if name == "cells" {
                object.next_value_seed(Any(Cells(&mut *state)))?;
            } else if HEADER.contains(&name.as_str()) {
                let value = object.next_value_seed(Bounded(&mut state.header_meter))?;
                state.header.insert(name, value);
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// The list of cells.
struct Cells<'a, 'limit>(&'a mut State<'limit>);

impl<'de> Handler<'de> for Cells<'_, '_> {
    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let state = self.0;
        // The last of several fields with one name counts, as in other readers of JSON.
        (state.cells, state.elements) = (Some(Vec::new()), 0);
        while list.next_element_seed(Any(Cell(&mut *state)))?.is_some() {
            state.elements += 1;
        }
        Ok(())
    }
}

/// An element of the list of cells.
struct Cell<'a, 'limit>(&'a mut State<'limit>);

impl<'de> Handler<'de> for Cell<'_, '_> {
    fn object<A: MapAccess<'de>>(self, object: A) -> Result<(), A::Error> {
        let state = self.0;
        let mut meter = Meter::new(MAX_VALUE_BYTES);
        let read = fields(object, &mut meter);
        // A repeat can be shorter in the file than in memory.
        let repeats = read.as_ref().map_or(0, |read| cell::repeats(Object::with(read)).count());
        meter.copy(size_of::<SavedCell>() + repeats * size_of::<SavedRepeat>());
        state.limit.take(&meter).map_err(|reason| state.stop(reason))?;
        let cell = cell::read(Object::with(&read?));
        let cells = state.cells.get_or_insert_default();
        if cells.len() == MAX_CELLS {
            return Err(state.stop(ReadErrorReason::TooManyCells { limit: MAX_CELLS }));
        }
        cells.push(cell);
        Ok(())
    }
}

/// A value of any type. The handler reads lists and objects.
struct Any<H>(H);

impl<'de, H: Handler<'de>> DeserializeSeed<'de> for Any<H> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, H: Handler<'de>> Visitor<'de> for Any<H> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        self.0.list(list)
    }
    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<(), A::Error> {
        self.0.object(object)
    }
}
