//! A part of a result that knows where it stands, so that whoever shows it can say so.

use serde_json::Value;

/// A part of a result and its JSON Pointer (RFC 6901).
#[derive(Debug, Clone)]
pub struct View<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> View<'a> {
    /// The whole result.
    pub fn new(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    /// A part, by the names on the way to it: `rx/latency_ns/p50`.
    pub fn get(&self, names: &str) -> Option<Self> {
        names.split('/').try_fold(self.clone(), |at, name| at.child(name))
    }

    fn child(&self, name: &str) -> Option<Self> {
        let value = match self.value {
            Value::Object(parts) => parts.get(name),
            Value::Array(items) => name.parse().ok().and_then(|at: usize| items.get(at)),
            _ => None,
        }?;
        Some(Self { value, path: format!("{}/{}", self.path, name.replace('~', "~0").replace('/', "~1")) })
    }

    /// The items of a list at a part, none where there is none.
    pub fn list(&self, names: &str) -> Vec<Self> {
        self.get(names).map_or_else(Vec::new, |list| list.list_here())
    }

    /// Its own items, where it is a list.
    pub fn list_here(&self) -> Vec<Self> {
        let count = self.value.as_array().map_or(0, Vec::len);
        (0..count).filter_map(|at| self.child(&at.to_string())).collect()
    }

    /// Names and parts of an object.
    pub fn parts(&self) -> Vec<(String, Self)> {
        let names = self.value.as_object().into_iter().flat_map(|parts| parts.keys());
        names.filter_map(|name| Some((name.clone(), self.child(name)?))).collect()
    }

    /// The value itself.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Where it stands.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The number at a part, where it is one.
    pub fn number(&self, names: &str) -> Option<f64> {
        self.get(names)?.value.as_f64().filter(|n| n.is_finite())
    }

    /// The whole number at a part, where it is one.
    pub fn whole(&self, names: &str) -> Option<u64> {
        self.get(names)?.value.as_u64()
    }

    /// The whole number at a part, with a sign.
    pub fn signed(&self, names: &str) -> Option<i64> {
        self.get(names)?.value.as_i64()
    }

    /// The text at a part; empty where there is none.
    pub fn text(&self, names: &str) -> &'a str {
        self.get(names).and_then(|part| part.value.as_str()).unwrap_or_default()
    }
}
