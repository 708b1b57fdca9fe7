//! A JSON object of which nothing is taken for granted.

use serde_json::{Map, Value};

use super::text;

/// What is absent, or of another kind than asked for, is absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a>(Option<&'a Map<String, Value>>);

impl<'a> Object<'a> {
    pub(super) fn of(value: &'a Value) -> Self {
        Self(value.as_object())
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

    pub(super) fn raw(&self, key: &str) -> Option<&'a str> {
        self.value(key)?.as_str()
    }

    pub(super) fn name(&self, key: &str) -> Option<String> {
        self.raw(key).map(text::name)
    }

    pub(super) fn sentence(&self, key: &str) -> Option<String> {
        self.raw(key).map(text::sentence)
    }

    /// Names in a list, as many as a list may have.
    pub(super) fn names(&self, key: &str, most: usize) -> Vec<String> {
        self.texts(key, most).map(text::name).collect()
    }

    pub(super) fn sentences(&self, key: &str, most: usize) -> Vec<String> {
        self.texts(key, most).map(text::sentence).collect()
    }

    fn texts(&self, key: &str, most: usize) -> impl Iterator<Item = &'a str> {
        self.list(key).unwrap_or_default().iter().filter_map(Value::as_str).take(most)
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.value(key)?.as_bool()
    }

    pub(super) fn count(&self, key: &str) -> Option<u64> {
        self.value(key)?.as_u64()
    }

    /// A figure: finite, and not below zero.
    pub(super) fn figure(&self, key: &str) -> Option<f64> {
        self.value(key)?.as_f64().filter(|figure| figure.is_finite() && *figure >= 0.0)
    }
}
