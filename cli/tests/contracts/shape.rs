//! The shape of JSON values: the types of each field, and the values of enumerated fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Union of the shapes of several values. Each line of its text is `PATH  TYPE|TYPE [optional] [= VALUE...]`.
#[derive(Default)]
pub(crate) struct Shape {
    fields: BTreeMap<String, Field>,
}

#[derive(Default)]
struct Field {
    types: BTreeSet<String>,
    words: BTreeSet<String>,
    count: usize,
    optional: bool,
}

impl Shape {
    /// Adds a value. `enumerated`: paths of the fields whose values are part of the shape.
    pub(crate) fn add(&mut self, value: &Value, enumerated: &[&str]) {
        self.walk(String::new(), value, enumerated);
    }

    fn walk(&mut self, path: String, value: &Value, enumerated: &[&str]) {
        let field = self.fields.entry(path.clone()).or_default();
        field.types.insert(type_of(value).to_owned());
        field.count += 1;
        if let (Value::String(word), true) = (value, enumerated.contains(&path.as_str())) {
            field.words.insert(word.clone());
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.walk(format!("{path}[]"), item, enumerated)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    self.walk(format!("{path}{dot}{name}"), value, enumerated);
                }
            }
            _ => {}
        }
    }

    /// Formats the shape as the text of a golden file.
    pub(crate) fn text(&self) -> String {
        self.fields
            .iter()
            .map(|(path, field)| {
                let optional = if self.is_optional(path, field) { " optional" } else { "" };
                let words: Vec<_> = field.words.iter().map(String::as_str).collect();
                let words = if words.is_empty() { String::new() } else { format!(" = {}", words.join(" ")) };
                let types: Vec<_> = field.types.iter().map(String::as_str).collect();
                format!("{}  {}{optional}{words}\n", if path.is_empty() { "." } else { path }, types.join("|"))
            })
            .collect()
    }

    /// Whether an object at the parent's path lacks the field.
    fn is_optional(&self, path: &str, field: &Field) -> bool {
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let is_field = !path.is_empty() && !path.ends_with("[]");
        field.optional || is_field && self.fields.get(parent).is_some_and(|parent| field.count < parent.count)
    }

    /// Parses the text of a golden file.
    pub(crate) fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (left, words) = line.split_once(" = ").unwrap_or((line, ""));
            let mut parts = left.split_whitespace();
            let path = parts.next()?;
            let field = Field {
                types: parts.next()?.split('|').map(str::to_owned).collect(),
                words: words.split_whitespace().map(str::to_owned).collect(),
                count: 0,
                optional: parts.next() == Some("optional"),
            };
            Some((if path == "." { String::new() } else { path.to_owned() }, field))
        };
        Self { fields: super::golden::lines(text).filter_map(line).collect() }
    }

    /// Fields, types and values of `self` that `allowed` does not contain, and required fields that `self` lacks.
    pub(crate) fn beyond(&self, allowed: &Self) -> Vec<String> {
        let mut beyond = Vec::new();
        for (path, field) in &self.fields {
            let Some(known) = allowed.fields.get(path) else {
                beyond.push(format!("+ {path} is new"));
                continue;
            };
            if !field.types.is_subset(&known.types) {
                beyond.push(format!("+ {path} is {:?}, not {:?}", field.types, known.types));
            }
            if !field.words.is_subset(&known.words) {
                beyond.push(format!("+ {path} has the values {:?}, not only {:?}", field.words, known.words));
            }
        }
        for (path, known) in &allowed.fields {
            let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
            let expected = !known.optional && !path.ends_with("[]") && self.fields.contains_key(parent);
            if expected && !self.fields.contains_key(path) {
                beyond.push(format!("- {path} is missing"));
            }
        }
        beyond
    }

    /// Union of both shapes.
    pub(crate) fn joined(mut self, other: Self) -> Self {
        for (path, field) in other.fields {
            let own = self.fields.entry(path).or_default();
            own.types.extend(field.types);
            own.words.extend(field.words);
            own.optional |= field.optional;
        }
        self
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Paths of every field below a value, without the value itself.
pub(crate) fn pointers(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        _ => Vec::new(),
    };
    let below = |(name, value): (String, &Value)| {
        let own = format!("/{name}");
        let deeper = pointers(value).into_iter().map(|pointer| format!("{own}{pointer}")).collect::<Vec<_>>();
        [vec![own.clone()], deeper].concat()
    };
    children.into_iter().flat_map(below).collect()
}

/// A value with a type that no field has. The arrays are nested because serde also reads a struct from an array of its fields.
pub(crate) fn nonsense() -> Value {
    serde_json::json!([[["nonsense"]]])
}
