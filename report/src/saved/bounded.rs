//! JSON values within a memory limit. A value can take a hundred times as much memory as its text.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Bytes of a list with one element.
const LIST_BYTES: usize = 4 * size_of::<Value>();
/// Bytes of each further element. The capacity of a list is at most twice its length.
const ELEMENT_BYTES: usize = 2 * size_of::<Value>();
/// Bytes of a map with one field. A node of a B-tree has room for 11 fields.
const MAP_BYTES: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 16;
/// Bytes of each further field. A node may be half empty.
const FIELD_BYTES: usize = 2 * (size_of::<String>() + size_of::<Value>());

/// Counts the memory of JSON values, and of the struct that the caller creates from them.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Memory of all values, in bytes.
    used_bytes: usize,
    pub(super) limit_bytes: usize,
    /// Size of the struct, in bytes, without its strings and lists.
    type_bytes: usize,
    /// Length of all strings, in bytes.
    text_bytes: usize,
    /// Number of values.
    values: usize,
    /// Whether the limit was exceeded.
    pub(super) is_exceeded: bool,
}

impl Meter {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, ..Self::default() }
    }

    /// Also counts a struct of this size, which the caller creates from the values.
    pub(super) fn copy(&mut self, type_bytes: usize) {
        self.type_bytes = type_bytes;
    }

    /// Maximum memory of the struct that the caller creates from the values, with its strings and lists.
    pub(super) fn copied_bytes(&self) -> usize {
        self.type_bytes + self.text_bytes + self.values * size_of::<String>()
    }

    fn add<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        self.used_bytes = self.used_bytes.saturating_add(bytes);
        self.is_exceeded = self.used_bytes > self.limit_bytes;
        if self.is_exceeded { Err(E::custom("over the limit of memory")) } else { Ok(()) }
    }

    fn text<E: Error>(&mut self, text: &str) -> Result<(), E> {
        self.text_bytes += text.len();
        self.add(text.len())
    }
}

/// Reads any value, and adds its memory to the meter.
pub(super) struct Bounded<'a>(pub(super) &'a mut Meter);

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.values += 1;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.0.text(text)?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Bounded(&mut *self.0))? {
            self.0.add(if values.is_empty() { LIST_BYTES } else { ELEMENT_BYTES })?;
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        fields(map, self.0).map(Value::Object)
    }
}

/// Reads the fields of an object.
pub(super) fn fields<'de, A: MapAccess<'de>>(mut map: A, meter: &mut Meter) -> Result<Map<String, Value>, A::Error> {
    let mut fields = Map::new();
    while let Some(name) = map.next_key::<String>()? {
        meter.text(&name)?;
        meter.add(if fields.is_empty() { MAP_BYTES } else { FIELD_BYTES })?;
        let value = map.next_value_seed(Bounded(&mut *meter))?;
        fields.insert(name, value);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, limit_bytes: usize) -> (Option<Value>, Meter) {
        let mut meter = Meter::new(limit_bytes);
        let value = Bounded(&mut meter).deserialize(&mut serde_json::Deserializer::from_str(text)).ok();
        (value, meter)
    }

    #[test]
    fn reads_every_kind_of_value() {
        let text = r#"{"a": [null, true, 1, -1, 1.5, "text", {"b": {}}], "a\"": []}"#;
        assert_eq!(read(text, 1 << 20).0, Some(serde_json::from_str(text).unwrap()));
    }

    #[test]
    fn stops_at_the_limit() {
        for text in [
            "[".to_owned() + &r#"{"":0},"#.repeat(100_000),
            "[".to_owned() + &"0,".repeat(100_000),
            "[".to_owned() + &"[[]],".repeat(100_000),
            format!("\"{}\"", "x".repeat(2 << 20)),
            "{".to_owned() + &(0..100_000).map(|at| format!("\"{at}\":0,")).collect::<String>(),
        ] {
            let (value, meter) = read(&text, 1 << 20);
            assert!(value.is_none() && meter.is_exceeded, "{}", &text[..20]);
        }
    }
}
