//! Access to a JSON object that may have any content.

use serde_json::{Map, Value};

use super::sanitize::{clean_name, clean_sentence};

/// A JSON object, or nothing. A field that is missing, null or of another type than requested is `None`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a>(Option<&'a Map<String, Value>>);

impl<'a> Object<'a> {
    pub(super) fn of(value: &'a Value) -> Self {
        Self(value.as_object())
    }

    /// The object with these fields.
    pub(super) fn with(fields: &'a Map<String, Value>) -> Self {
        Self(Some(fields))
    }

    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.0?.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn object(&self, key: &str) -> Self {
        Self(self.value(key).and_then(Value::as_object))
    }

    pub(super) fn list(&self, key: &str) -> Option<&'a [Value]> {
        Some(self.value(key)?.as_array()?.as_slice())
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.0.into_iter().flatten()
    }

    /// Text as it is in the file. Never print it: see [`Object::name`] and [`Object::sentence`].
    pub(super) fn raw(&self, key: &str) -> Option<&'a str> {
        self.value(key)?.as_str()
    }

    pub(super) fn name(&self, key: &str) -> Option<String> {
        self.raw(key).map(clean_name)
    }

    pub(super) fn sentence(&self, key: &str) -> Option<String> {
        self.raw(key).map(clean_sentence)
    }

    /// The first `limit` names of a list.
    pub(super) fn names(&self, key: &str, limit: usize) -> Vec<String> {
        self.texts(key, limit).map(clean_name).collect()
    }

    /// The first `limit` sentences of a list.
    pub(super) fn sentences(&self, key: &str, limit: usize) -> Vec<String> {
        self.texts(key, limit).map(clean_sentence).collect()
    }

    fn texts(&self, key: &str, limit: usize) -> impl Iterator<Item = &'a str> {
        self.list(key).unwrap_or_default().iter().filter_map(Value::as_str).take(limit)
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.value(key)?.as_bool()
    }

    pub(super) fn count(&self, key: &str) -> Option<u64> {
        self.value(key)?.as_u64()
    }

    /// A measured number: finite and not negative.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.value(key)?.as_f64().filter(|number| number.is_finite() && *number >= 0.0)
    }
}
