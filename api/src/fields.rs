//! The one way in which request fields are read and judged: every fault is collected, so that a client learns of all of
//! them at once, whether the schema or a rule found it.
//!
//! `Fields::judged_by::<T>` compares a JSON object with the schema that documents it. Operations then read fields by name;
//! a field that the schema has refused reads as absent, and rules add faults of their own before `finish`.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use serde_json::{Map, Value};

use crate::error::{ApiError, Faults};
use crate::rest::document::example_of;

/// Title of the schema of integers that may also be sent as digits in a string, or as a float without a fraction:
/// clients whose numbers are floats send large ones so.
pub const LENIENT_INTEGER: &str = "lenient integer";

/// The fields of one request.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    values: Map<String, Value>,
    faults: Faults,
    ignored: Vec<String>,
}

impl Fields {
    /// Judges an object by the schema of the type that documents it.
    pub fn judged_by<T: Type>(values: Map<String, Value>) -> Self {
        let mut fields = Self { values, ..Self::default() };
        let registry = registry_of::<T>();
        if let Some(schema) = resolve(&registry, &T::schema_ref()) {
            fields.judge(&registry, schema, &T::name());
        }
        fields
    }

    fn judge(&mut self, registry: &Registry, schema: &MetaSchema, schema_name: &str) {
        let mut faults = Faults::new();
        for (name, property) in &schema.properties {
            if let Some(schema) = resolve(registry, property) {
                let lenient = schema.title.as_deref() == Some(LENIENT_INTEGER);
                if lenient || schema.ty == "integer" {
                    self.normalise_integer(name, lenient);
                }
            }
            match self.values.get(*name) {
                None | Some(Value::Null) if schema.required.contains(name) => {
                    faults.insert((*name).to_owned(), vec!["This field is required".to_owned()]);
                }
                None | Some(Value::Null) => {}
                Some(value) => {
                    let example = || example_of(schema_name, name);
                    check(registry, property, value, name, &example, &mut faults);
                }
            }
        }
        let known = |name: &String| schema.properties.iter().any(|(known, _)| *known == name.as_str());
        self.ignored = self.values.keys().filter(|name| !known(name)).take(20).cloned().collect();
        self.faults = faults;
    }

    /// Reads a float without a fraction, which is an integer to JSON Schema, as the one that it means; and a string of digits
    /// where that is `lenient`.
    fn normalise_integer(&mut self, name: &str, lenient: bool) {
        let Some(value) = self.values.get_mut(name) else { return };
        let text = match &*value {
            Value::String(text) if lenient => text.clone(),
            Value::Number(number) if !number.is_i64() && !number.is_u64() => match number.as_f64() {
                // Minus nothing is nothing.
                Some(0.0) => "0".to_owned(),
                // In full, however large: 1e18 is a whole number too.
                Some(float) if float.fract() == 0.0 => format!("{float:.0}"),
                _ => return,
            },
            _ => return,
        };
        let digits = text.strip_suffix(".0").unwrap_or(&text);
        if !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && let Ok(number) = digits.parse::<i64>()
        {
            *value = number.into();
        }
    }

    /// A field's value, unless it is absent, null or at fault.
    pub fn value(&self, name: &str) -> Option<&Value> {
        let faulty = self
            .faults
            .keys()
            .any(|fault| fault.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.'])));
        self.values.get(name).filter(|value| !value.is_null() && !faulty)
    }

    /// Whether the request names the field, with whatever value.
    pub fn names(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A text field.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.as_str()
    }

    /// A text field without blanks around it.
    pub fn trimmed(&self, name: &str) -> Option<&str> {
        self.text(name).map(str::trim)
    }

    /// A yes or no.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.value(name)?.as_bool()
    }

    /// A whole number.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.value(name)?.as_i64()
    }

    /// A list of texts.
    pub fn texts(&self, name: &str) -> Option<Vec<&str>> {
        self.value(name)?.as_array().map(|items| items.iter().filter_map(Value::as_str).collect())
    }

    /// A text field parsed into a type; what the type says is wrong becomes the field's fault.
    pub fn parsed<T: FromStr>(&mut self, name: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        let parsed = self.text(name)?.parse();
        self.ok(name, parsed)
    }

    /// The good half of a result; the other half becomes the field's fault.
    pub fn ok<T, E: std::fmt::Display>(&mut self, name: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problem) => {
                self.fault(name, as_sentence(problem.to_string()));
                None
            }
        }
    }

    /// Notes a fault.
    pub fn fault(&mut self, name: &str, problem: impl Into<String>) {
        self.faults.entry(name.to_owned()).or_default().push(problem.into());
    }

    /// Whether a fault was noted for exactly this field.
    pub fn is_faulty(&self, name: &str) -> bool {
        self.faults.contains_key(name)
    }

    /// Every field as it was sent, sorted by name.
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// Fields that the request has and nobody reads, to be named in the answer's message.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// A message with the ignored fields named.
    pub fn message(&self, message: &str) -> String {
        if self.ignored.is_empty() {
            return message.to_owned();
        }
        let names = self.ignored.iter().map(|name| name.chars().take(64).collect::<String>()).collect::<Vec<_>>();
        format!("{message} Ignored: {}", names.join(", "))
    }

    /// The end of judging: every fault at once, or none.
    ///
    /// # Errors
    /// The faults.
    pub fn finish(&self) -> Result<(), ApiError> {
        if self.faults.is_empty() { Ok(()) } else { Err(ApiError::fields(self.faults.clone())) }
    }

    /// The faults as an error, for a rule that must have found one.
    pub fn faulty(&self) -> ApiError {
        ApiError::fields(self.faults.clone())
    }
}

/// A problem as its reader sees it: words that are parts of sentences elsewhere stand alone here.
pub(crate) fn as_sentence(problem: String) -> String {
    match problem.strip_prefix("must be one of: ") {
        Some(allowed) => format!("Must be one of: {}.", allowed.trim_end_matches('.')),
        None => problem,
    }
}

fn resolve<'a>(registry: &'a Registry, schema: &'a MetaSchemaRef) -> Option<&'a MetaSchema> {
    match schema {
        MetaSchemaRef::Inline(schema) => Some(schema),
        MetaSchemaRef::Reference(name) => registry.schemas.get(name),
    }
}

/// Judges a value by its schema, and what it holds by theirs. `example` is one that would be right, if one is known.
fn check(
    registry: &Registry,
    schema: &MetaSchemaRef,
    value: &Value,
    at: &str,
    example: &dyn Fn() -> Option<Value>,
    faults: &mut Faults,
) {
    let Some(schema) = resolve(registry, schema) else { return };
    if let Some(problem) = problem(registry, schema, value, example) {
        faults.entry(at.to_owned()).or_default().push(problem);
        return;
    }
    // A reference that has words of its own.
    for part in &schema.all_of {
        check(registry, part, value, at, example, faults);
    }
    if let (Some(items), Some(schema)) = (value.as_array(), schema.items.as_ref()) {
        for (index, item) in items.iter().enumerate() {
            check(registry, schema, item, &format!("{at}[{index}]"), &|| None, faults);
        }
    }
    if let Some(object) = value.as_object() {
        let mut nested: BTreeMap<String, &MetaSchemaRef> = BTreeMap::new();
        for (name, property) in &schema.properties {
            nested.insert((*name).to_owned(), property);
            if schema.required.contains(name) && object.get(*name).is_none_or(Value::is_null) {
                faults.entry(format!("{at}.{name}")).or_default().push("This field is required".to_owned());
            }
        }
        for (name, property) in nested {
            if let Some(value) = object.get(&name).filter(|value| !value.is_null()) {
                check(registry, property, value, &format!("{at}.{name}"), &|| None, faults);
            }
        }
    }
}

/// What is wrong with one value, going by its schema alone.
fn problem(
    registry: &Registry,
    schema: &MetaSchema,
    value: &Value,
    known: &dyn Fn() -> Option<Value>,
) -> Option<String> {
    let example = |fallback: &str| known().map_or_else(|| fallback.to_owned(), |example| example.to_string());
    if !schema.enum_items.is_empty() && !schema.enum_items.contains(value) {
        let allowed: Vec<&str> = schema.enum_items.iter().filter_map(Value::as_str).collect();
        return Some(format!("Must be one of: {}.", allowed.join(", ")));
    }
    match schema.ty {
        "string" => {
            let Some(text) = value.as_str() else {
                return Some(wrong_type(value, "a string, such as", &example("\"text\"")));
            };
            // PostgreSQL cannot store it, and nobody means it.
            if text.contains('\0') {
                return Some("Must not contain the character U+0000.".to_owned());
            }
            let chars = text.chars().count();
            if schema.min_length.is_some_and(|least| chars < least) {
                let least = schema.min_length.unwrap_or_default();
                return Some(if least == 1 {
                    "Must not be empty.".to_owned()
                } else {
                    format!("Must have at least {least} characters.")
                });
            }
            schema.max_length.filter(|most| chars > *most).map(|most| format!("Must have at most {most} characters."))
        }
        "integer" => {
            let Some(number) = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from)) else {
                // A whole number all the same, too large to be kept as one: what is wrong is its size.
                return huge(schema, value)
                    .and_then(|number| bounds(schema, number))
                    .or_else(|| Some(wrong_type(value, "a whole number, such as", &example("1"))));
            };
            bounds(schema, number)
        }
        "number" => (!value.is_number()).then(|| wrong_type(value, "a number, such as", &example("1.5"))),
        "boolean" => (!value.is_boolean()).then(|| wrong_type(value, "a boolean:", "true or false")),
        "array" => {
            let Some(items) = value.as_array() else {
                // Examples are often those of one item.
                let words = || resolve(registry, schema.items.as_deref()?)?.enum_items.first().cloned();
                let list = match known().or_else(words) {
                    Some(list @ Value::Array(_)) => list,
                    Some(item) => Value::Array(vec![item]),
                    None => Value::Array(Vec::new()),
                };
                return Some(wrong_type(value, "a list, such as", &list.to_string()));
            };
            schema.max_items.filter(|most| items.len() > *most).map(|most| format!("Must have at most {most} items."))
        }
        "object" => (!value.is_object()).then(|| wrong_type(value, "an object, such as", &example("{}"))),
        _ => None,
    }
}

/// The whole number that a float without a fraction means, or digits where those are understood.
fn huge(schema: &MetaSchema, value: &Value) -> Option<i128> {
    if let Some(text) = value.as_str().filter(|_| schema.title.as_deref() == Some(LENIENT_INTEGER)) {
        let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        return is_digits.then(|| text.parse().unwrap_or(i128::MAX));
    }
    #[expect(clippy::cast_possible_truncation, reason = "what is beyond the largest number counts as that number")]
    value.as_f64().filter(|float| float.fract() == 0.0).map(|float| float as i128)
}

fn bounds(schema: &MetaSchema, number: i128) -> Option<String> {
    // Bounds in schemas are floats; ours are whole numbers well below 2^53.
    #[expect(clippy::cast_possible_truncation, reason = "bounds in our schemas are small whole numbers")]
    let whole = |bound: Option<f64>| bound.map(|bound| bound as i128);
    if let Some(least) = whole(schema.minimum).filter(|least| number < *least) {
        return Some(format!("Must be at least {least}."));
    }
    let most = whole(schema.maximum).unwrap_or(i128::MAX).min(i128::from(i64::MAX));
    (number > most).then(|| format!("Must be at most {most}."))
}

fn wrong_type(value: &Value, wanted: &str, example: &str) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("This is {found}; send {wanted} {example}.")
}

/// A type's schema and those it refers to. Built once per type: the document has few, and requests are many.
fn registry_of<T: Type>() -> Arc<Registry> {
    static KNOWN: LazyLock<RwLock<HashMap<String, Arc<Registry>>>> = LazyLock::new(RwLock::default);
    let name = T::name();
    if let Some(registry) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(name.as_ref()) {
        return registry.clone();
    }
    let mut registry = Registry::new();
    T::register(&mut registry);
    let registry = Arc::new(registry);
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).insert(name.into_owned(), registry.clone());
    registry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::api_keys::CreateApiKey;
    use crate::rest::sandbox::ChangeInbox;
    use crate::rest::types::CreatePaymentOrder;
    use crate::rest::webhook_endpoints::CreateWebhookEndpoint;
    use poem_openapi::Object;
    use proptest::prelude::*;
    use serde_json::json;

    #[derive(Object)]
    struct Sample {
        #[oai(validator(min_length = 1, max_length = 5))]
        name: String,
        count: Option<i32>,
        tags: Option<Vec<String>>,
        active: Option<bool>,
    }

    fn judged(value: Value) -> Fields {
        Fields::judged_by::<Sample>(value.as_object().cloned().unwrap_or_default())
    }

    #[test]
    fn every_faulty_field_is_named_at_once() {
        let fields = judged(json!({"count": "1", "tags": ["a", 2], "active": 1}));
        let error = fields.finish().unwrap_err();
        assert_eq!(error.details.keys().collect::<Vec<_>>(), ["active", "count", "name", "tags[1]"]);
        assert_eq!(fields.value("tags"), None);
    }

    #[test]
    fn unknown_fields_are_ignored_and_named() {
        let fields = judged(json!({"name": "a", "nmae": 1}));
        assert!(fields.finish().is_ok());
        assert_eq!(fields.message("Done."), "Done. Ignored: nmae");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_told_how_the_right_one_looks() {
        let order = json!({"amount": 100, "currency": "USDC", "blockchain": "base", "order_info": {}, "nonce": true});
        let fields = Fields::judged_by::<CreatePaymentOrder>(order.as_object().cloned().unwrap());
        let details = fields.finish().unwrap_err().details;
        assert_eq!(details["amount"], ["This is a number; send a string, such as \"100.00\"."]);
        assert_eq!(details["nonce"], ["This is a boolean; send a whole number, such as 1766000000000."]);
        assert!(details["order_info"][0].starts_with("This is an object; send a string, such as \"{"), "{details:?}");
    }

    #[test]
    fn what_is_suggested_would_be_taken() {
        let key = json!({"name": "till", "scopes": "read", "expires_at": 12});
        let details =
            Fields::judged_by::<CreateApiKey>(key.as_object().cloned().unwrap()).finish().unwrap_err().details;
        assert_eq!(details["scopes"], ["This is a string; send a list, such as [\"read\"]."]);
        let time = "This is a number; send a string, such as \"2999-12-31T12:00:00Z\".";
        assert_eq!(details["expires_at"], [time]);
        let endpoint = json!({"url": "https://shop.example/hook", "events": "payment.confirmed"});
        let fields = Fields::judged_by::<CreateWebhookEndpoint>(endpoint.as_object().cloned().unwrap());
        let error = fields.finish().unwrap_err();
        assert_eq!(error.details["events"], ["This is a string; send a list, such as [\"payment.confirmed\"]."]);
        assert_eq!(error.message, "events: This is a string; send a list, such as [\"payment.confirmed\"].");
    }

    #[test]
    fn a_whole_number_that_is_too_large_is_told_the_bound() {
        let digits = "9".repeat(32);
        for nonce in [serde_json::from_str(&digits).unwrap(), json!(digits), json!("9".repeat(99)), json!(u64::MAX)] {
            let fields = Fields::judged_by::<CreatePaymentOrder>(Map::from_iter([("nonce".to_owned(), nonce)]));
            let details = fields.finish().unwrap_err().details;
            assert_eq!(details["nonce"], ["Must be at most 9223372036854775807."]);
        }
    }

    #[test]
    fn whole_numbers_are_understood_as_floats_and_digits_too() {
        for (sent, meant) in [
            (json!(1.769e18), Some(1_769_000_000_000_000_000)),
            (json!(1e16), Some(10_000_000_000_000_000)),
            (json!(3.0), Some(3)),
            (json!("7"), Some(7)),
            (json!("7.0"), Some(7)),
            (json!(9.3e18), None),
            (json!(1.5), None),
            (json!(-1.0), None),
            (json!("1e3"), None),
        ] {
            let fields = Fields::judged_by::<CreatePaymentOrder>(Map::from_iter([("nonce".to_owned(), sent.clone())]));
            assert_eq!(fields.integer("nonce"), meant, "{sent}");
        }
        // Elsewhere a number is a number.
        for (sent, meant) in [(json!(5.0), Some(5)), (json!(-0.0), Some(0)), (json!("5"), None), (json!(5.5), None)] {
            let fields = Fields::judged_by::<ChangeInbox>(Map::from_iter([("delay_seconds".to_owned(), sent.clone())]));
            assert_eq!(fields.integer("delay_seconds"), meant, "{sent}");
        }
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let fields = judged(json!({"name": "a", "count": null}));
        assert!(fields.finish().is_ok());
        assert_eq!(fields.integer("count"), None);
        assert!(judged(json!({"name": null})).finish().is_err());
    }

    proptest! {
        #[test]
        fn no_value_makes_the_judge_panic(name in any::<Option<String>>(), count in any::<i64>(), text in ".{0,20}") {
            for value in [json!({"name": name, "count": count}), json!({"name": [text.clone()], "tags": {text: count}})] {
                let fields = judged(value);
                let _ = (fields.finish(), fields.text("name"), fields.texts("tags"));
            }
        }
    }
}
