//! A JSON Schema beside what is serialised: no field more, no field less.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "not every test of a schema needs everything")]

use serde_json::{Value, json};

/// Where `value` does not fit.
pub fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).expect("the schema compiles");
    validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

/// Calls `visit` with every object that the schema describes in the report, and its description.
fn walk(schema: &Value, root: &Value, report: &Value, visit: &mut impl FnMut(&Value, &Value, &str)) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).expect("it leads somewhere"),
        None => schema,
    };
    for item in report.as_array().into_iter().flatten() {
        walk(&schema["items"], root, item, visit);
    }
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema["additionalProperties"], false);
    for (name, property) in properties {
        visit(schema, report, name);
        walk(property, root, &report[name], visit);
    }
}

/// Panics unless every field that the schema describes is in `full`, a report with every optional field, has a description, is required or optional as the
/// schema says, and has no other field beside it. More than `least` fields have to be looked at.
#[track_caller]
pub fn every_field_is_described(schema: &Value, full: &Value, least: usize) {
    let mut count = 0;
    walk(schema, schema, full, &mut |object, report, name| {
        assert!(report.get(name).is_some(), "{name}: described, and never in a report");
        assert!(object["properties"][name]["description"].is_string(), "{name}: without a description");
        // Without a required field the report must not fit: each is tried at its own schema.
        let required = object["required"].as_array().is_some_and(|r| r.iter().any(|r| r == name));
        let validator =
            jsonschema::validator_for(&json!({"$defs": schema["$defs"], "allOf": [object]})).unwrap();
        let mut without = report.clone();
        without.as_object_mut().unwrap().remove(name);
        assert_eq!(validator.is_valid(&without), !required, "{name}");
        let mut more = report.clone();
        more["surprise"] = json!(1);
        assert!(!validator.is_valid(&more), "{name}: a field that nobody described");
        count += 1;
    });
    assert!(count > least, "only {count} fields were looked at");
}
