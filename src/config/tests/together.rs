//! A mistake in one place hides none in another.

use serde_json::{Value, json};

use super::super::*;
use super::{CONTRACT, mistakes};

/// JSON pointers of all values in `value`, but the whole.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut below = |name: String, child: &Value| {
        let at = format!("{at}/{name}");
        places(child, &at, found);
        found.push(at);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, child)| below(name.clone(), child)),
        Value::Array(entries) => entries.iter().enumerate().for_each(|(i, child)| below(i.to_string(), child)),
        _ => {}
    }
}

#[test]
fn a_number_below_zero_once_hid_every_mistake_about_what_fields_mean() {
    let pipeline = parse(CONTRACT, "p.yaml", &|name| (name == "HOSTNAME").then(|| "w7".into())).unwrap_or_else(|e| panic!("{e}")).0;
    let mut whole = serde_json::to_value(pipeline).expect("JSON");
    whole["fetch"]["allow"]["s3"] = json!(["lake"]);
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    assert!(all.len() > 60);
    for place in all.iter().filter(|place| !"/fetch/allow/s3/0".starts_with(place.as_str())) {
        for wrong in
            [json!(-1), json!(1e300), json!(u64::MAX), json!("nonsense"), json!(null), json!([]), json!({}), json!([[]]), json!({"x": 1})]
        {
            let mut broken = whole.clone();
            *broken.pointer_mut(place).expect("a place") = wrong.clone();
            let found = mistakes(&broken.to_string());
            assert!(found.contains("fetch.allow.s3[0]: `lake` is not"), "{place} = {wrong}:\n{found}");
        }
    }
}
