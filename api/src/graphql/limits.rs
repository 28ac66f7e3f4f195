//! What an operation may be: bounds on the text before it is parsed, and on the document before it is judged.
//!
//! The library's own limits come too late for some documents. Its parser recurses as deep as brackets are nested, and it
//! walks every spread of a fragment before it looks at complexity, so that thirty fragments that spread each other twice
//! cost a billion steps. Here each fragment is measured once. Complexity, which needs the schema, is left to the library.

use std::collections::HashMap;
use std::convert::Infallible;

use async_graphql::parser::types::{
    ExecutableDocument, Field, FragmentDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned, Request, ServerError, Value, Variables};

/// Largest document, in bytes.
pub(super) const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
/// Deepest nesting of fields.
const MAX_DEPTH: usize = 12;
/// Most points; see [`list_cost`].
pub(super) const MAX_COMPLEXITY: usize = 1_000;
/// Most aliases in a document.
const MAX_ALIASES: usize = 30;
/// Most fields at the top of an operation.
const MAX_ROOT_FIELDS: usize = 10;
/// Most fields and spreads, with fragments written out: none costs less than a point.
const MAX_SELECTIONS: usize = 1_000;
/// Most open brackets. Twelve levels with arguments and introspection stay far below.
const MAX_NESTING: usize = 64;
/// Longest name, in bytes: the library compares unknown names with known ones, letter by letter.
const MAX_NAME_BYTES: usize = 128;
/// Most fragments.
const MAX_FRAGMENTS: usize = 100;
/// Most arguments, and most variables: some rules of the library compare each with each.
const MAX_ARGUMENTS: usize = 250;
/// Most directives.
const MAX_DIRECTIVES: usize = 100;
/// Items of a list if neither `first` nor `last` is given.
pub(super) const DEFAULT_PAGE: u64 = 20;
/// Most items of a list at a time.
pub(super) const MAX_PAGE: u64 = 100;
/// Fields of a list's item that cost one point together: most are a copy, the item itself is the work.
const FIELDS_PER_POINT: usize = 10;

/// What a list costs: a point per item and ten of its fields. `fields` is what one item costs by itself.
pub(super) fn list_cost(first: Option<i32>, last: Option<i32>, fields: usize) -> usize {
    let asked = first.or(last).map_or(DEFAULT_PAGE, |asked| u64::try_from(asked).unwrap_or_default());
    let items = usize::try_from(asked.clamp(1, MAX_PAGE)).unwrap_or(usize::MAX);
    items.saturating_mul(fields.div_ceil(FIELDS_PER_POINT).max(1)).min(MAX_COMPLEXITY.saturating_add(1))
}

/// Parses the document of a request, once, and refuses what is beyond the limits. The parsed document stays with the
/// request.
///
/// # Errors
/// What is too much, or the syntax error.
pub(super) fn admit(request: &mut Request) -> Result<(), ServerError> {
    check_text(&request.query)?;
    check_document(request.parsed_query()?)
}

/// The kind of operation that an admitted request asks for; `None` where it names none of its document's.
pub(super) fn kind_of(request: &mut Request) -> Option<OperationType> {
    let name = request.operation_name.clone();
    let document = request.parsed_query().ok()?;
    let mut operations = document.operations.iter();
    let found = match name {
        Some(name) => operations.find(|(known, _)| known.is_some_and(|known| known.as_str() == name)),
        None => operations.next().filter(|_| operations.next().is_none()),
    };
    found.map(|(_, operation)| operation.node.ty)
}

/// Fields that cost a list or a search: each counts like a request of its own.
const LISTS: [&str; 1] = ["paymentOrders"];

/// Lists and searches in the chosen operation of an admitted request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// Number of lists. Each alias of a list counts.
    pub(super) lists: usize,
    /// Indicates whether one of the lists is searched.
    pub(super) searches: bool,
}

impl Demand {
    /// Number of requests to count in addition to the request itself.
    pub(super) fn more(self) -> usize {
        self.lists.saturating_sub(1)
    }
}

/// Demand of an admitted request. The size of the request is bounded, with fragments written out.
pub(super) fn demand(request: &mut Request) -> Demand {
    let (name, mut variables) = (request.operation_name.clone(), request.variables.clone());
    let mut demand = Demand::default();
    let Ok(document) = request.parsed_query() else { return demand };
    let chosen = |known: Option<&Name>| name.is_none() || known.map(Name::as_str) == name.as_deref();
    for (_, operation) in document.operations.iter().filter(|(known, _)| chosen(*known)) {
        for definition in &operation.node.variable_definitions {
            if let Some(default) = &definition.node.default_value {
                variables.entry(definition.node.name.node.clone()).or_insert_with(|| default.node.clone());
            }
        }
        add_demand(&operation.node.selection_set, &document.fragments, &variables, &mut demand);
    }
    demand
}

fn add_demand(
    set: &Positioned<SelectionSet>,
    fragments: &HashMap<Name, Positioned<FragmentDefinition>>,
    variables: &Variables,
    demand: &mut Demand,
) {
    for selection in &set.node.items {
        match &selection.node {
            Selection::Field(field) => {
                if LISTS.contains(&field.node.name.node.as_str()) {
                    demand.lists = demand.lists.saturating_add(1);
                    demand.searches |= is_search(&field.node, variables);
                }
                add_demand(&field.node.selection_set, fragments, variables, demand);
            }
            Selection::FragmentSpread(spread) => {
                if let Some(fragment) = fragments.get(&spread.node.fragment_name.node) {
                    add_demand(&fragment.node.selection_set, fragments, variables, demand);
                }
            }
            Selection::InlineFragment(inline) => {
                add_demand(&inline.node.selection_set, fragments, variables, demand);
            }
        }
    }
}

fn is_search(field: &Field, variables: &Variables) -> bool {
    let Some(filter) = field.get_argument("filter") else { return false };
    let value = |name: Name| Ok::<_, Infallible>(variables.get(&name).cloned().unwrap_or_default());
    let Ok(filter) = filter.node.clone().into_const_with(value);
    matches!(filter, Value::Object(fields) if fields.get("search").is_some_and(|text| *text != Value::Null))
}

fn check_text(text: &str) -> Result<(), ServerError> {
    if text.len() > MAX_DOCUMENT_BYTES {
        return Err(refused(format!("The document has {} bytes; at most {MAX_DOCUMENT_BYTES} are read.", text.len())));
    }
    let mut nesting: usize = 0;
    let mut name: usize = 0;
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let (_, after) = rest.split_at(char.len_utf8());
        rest = match char {
            '"' => after_string(rest),
            '#' => after.find(['\n', '\r']).map_or("", |end| after.split_at(end).1),
            _ => after,
        };
        name = if char.is_ascii_alphanumeric() || char == '_' { name.saturating_add(1) } else { 0 };
        match char {
            '{' | '[' | '(' => nesting = nesting.saturating_add(1),
            '}' | ']' | ')' => nesting = nesting.saturating_sub(1),
            _ => {}
        }
        if nesting > MAX_NESTING {
            return Err(refused(format!("The document is nested more than {MAX_NESTING} brackets deep.")));
        }
        if name > MAX_NAME_BYTES {
            return Err(refused(format!("The document holds a name of more than {MAX_NAME_BYTES} bytes.")));
        }
    }
    Ok(())
}

/// What follows the string or block string at the start of `text`; nothing, where it does not end.
fn after_string(text: &str) -> &str {
    let (mut rest, end) = match text.strip_prefix("\"\"\"") {
        Some(block) => (block, "\"\"\""),
        None => (text.strip_prefix('"').unwrap_or(text), "\""),
    };
    while let Some(char) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix(end) {
            return after;
        }
        let escaped = if end.len() > 1 { rest.strip_prefix("\\\"\"\"") } else { rest.strip_prefix('\\') };
        rest = match escaped {
            Some(after) if end.len() > 1 => after,
            Some(after) => after.split_at(after.chars().next().map_or(0, char::len_utf8)).1,
            // A plain string ends with its line; the parser will say so.
            None if end.len() == 1 && matches!(char, '\n' | '\r') => return rest,
            None => rest.split_at(char.len_utf8()).1,
        };
    }
    ""
}

fn check_document(document: &ExecutableDocument) -> Result<(), ServerError> {
    if document.fragments.len() > MAX_FRAGMENTS {
        return Err(refused(format!("The document has more than {MAX_FRAGMENTS} fragments.")));
    }
    let mut measure = Measure { fragments: &document.fragments, known: HashMap::new(), totals: Totals::default() };
    let mut selections: usize = 0;
    for (_, operation) in document.operations.iter() {
        let operation = &operation.node;
        measure.totals.arguments = measure.totals.arguments.saturating_add(operation.variable_definitions.len());
        measure.totals.directives = measure.totals.directives.saturating_add(operation.directives.len());
        let size = measure.set(&operation.selection_set)?;
        selections = selections.saturating_add(size.selections);
        check_size(&size, operation.ty)?;
    }
    // Fragments that nobody spreads are judged by the library too.
    for name in document.fragments.keys() {
        selections = selections.saturating_add(measure.fragment(name)?.written);
    }
    if selections > MAX_SELECTIONS {
        return Err(refused(format!(
            "The document selects more than {MAX_SELECTIONS} fields, with fragments written out."
        )));
    }
    let Totals { aliases, arguments, directives } = measure.totals;
    for (count, most, what) in [
        (aliases, MAX_ALIASES, "aliases"),
        (arguments, MAX_ARGUMENTS, "arguments and variables"),
        (directives, MAX_DIRECTIVES, "directives"),
    ] {
        if count > most {
            return Err(refused(format!("The document has {count} {what}; at most {most} are allowed.")));
        }
    }
    Ok(())
}

fn check_size(size: &Size, kind: OperationType) -> Result<(), ServerError> {
    if size.depth > MAX_DEPTH {
        return Err(refused(format!("Fields are nested {} deep; at most {MAX_DEPTH} are allowed.", size.depth)));
    }
    let most = if kind == OperationType::Subscription { 1 } else { MAX_ROOT_FIELDS };
    if size.roots > most {
        return Err(refused(format!(
            "The operation has {} fields at the top; at most {most} are allowed.",
            size.roots
        )));
    }
    Ok(())
}

fn refused(message: String) -> ServerError {
    ServerError::new(message, None)
}

/// Counted in the document as it is written.
#[derive(Default)]
struct Totals {
    aliases: usize,
    arguments: usize,
    directives: usize,
}

/// A set of selections, with fragments written out.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Fields, spreads and inline fragments.
    selections: usize,
    /// The same without what spreads bring.
    written: usize,
    /// Levels of fields.
    depth: usize,
    /// Fields of the first level.
    roots: usize,
    /// Levels of introspection lists inside each other.
    lists: usize,
}

impl Size {
    fn beside(self, other: Self) -> Self {
        Self {
            selections: self.selections.saturating_add(other.selections),
            written: self.written.saturating_add(other.written),
            depth: self.depth.max(other.depth),
            roots: self.roots.saturating_add(other.roots),
            lists: self.lists.max(other.lists),
        }
    }
}

struct Measure<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    /// `None` while a fragment is being measured.
    known: HashMap<&'a str, Option<Size>>,
    totals: Totals,
}

impl<'a> Measure<'a> {
    fn set(&mut self, set: &'a Positioned<SelectionSet>) -> Result<Size, ServerError> {
        let mut size = Size::default();
        for selection in &set.node.items {
            let directives = selection.node.directives().len();
            self.totals.directives = self.totals.directives.saturating_add(directives);
            let one = match &selection.node {
                Selection::Field(field) => self.field(&field.node)?,
                Selection::FragmentSpread(spread) => {
                    Size { written: 0, ..self.fragment(&spread.node.fragment_name.node)? }
                }
                Selection::InlineFragment(inline) => self.set(&inline.node.selection_set)?,
            };
            let itself = Size { selections: 1, written: 1, ..Size::default() };
            size = size.beside(one).beside(itself);
        }
        Ok(size)
    }

    fn field(&mut self, field: &'a Field) -> Result<Size, ServerError> {
        self.totals.aliases = self.totals.aliases.saturating_add(usize::from(field.alias.is_some()));
        self.totals.arguments = self.totals.arguments.saturating_add(field.arguments.len());
        let inside = self.set(&field.selection_set)?;
        let mut size = Size { depth: inside.depth.saturating_add(1), roots: 1, ..inside };
        match field.name.node.as_str() {
            // Tools' introspection goes 15 deep; what makes it costly is lists of types inside lists of types.
            "__schema" | "__type" if inside.lists > 1 => {
                let message = "Introspection may not ask for the fields of the types of fields; list the types once.";
                return Err(refused(message.to_owned()));
            }
            "__schema" | "__type" => size.depth = 1,
            "fields" | "inputFields" | "interfaces" | "possibleTypes" | "enumValues" => {
                size.lists = size.lists.saturating_add(1);
            }
            _ => {}
        }
        Ok(size)
    }

    fn fragment(&mut self, name: &'a str) -> Result<Size, ServerError> {
        match self.known.get(name) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => return Err(refused(format!("The fragment \"{name}\" spreads itself."))),
            None => {}
        }
        // One that is not there is reported by the library, with its place.
        let Some(fragment) = self.fragments.get(name) else { return Ok(Size::default()) };
        self.known.insert(name, None);
        let directives = fragment.node.directives.len();
        self.totals.directives = self.totals.directives.saturating_add(directives);
        let size = self.set(&fragment.node.selection_set)?;
        self.known.insert(name, Some(size));
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judged(query: impl Into<String>) -> Result<(), String> {
        admit(&mut Request::new(query)).map_err(|error| error.message)
    }

    #[track_caller]
    fn refuses(query: impl Into<String>, because: &str) {
        let message = judged(query).unwrap_err();
        assert!(message.contains(because), "{message}");
    }

    fn nested(field: &str, depth: usize) -> String {
        format!("{}{}", format!("{{{field}").repeat(depth), "}".repeat(depth))
    }

    #[test]
    fn depth_is_counted_in_fields_and_through_fragments() {
        assert_eq!(judged(nested("a", 12)), Ok(()));
        refuses(nested("a", 13), "nested 13 deep");
        refuses(format!("{{a ...F}} fragment F on T {}", nested("b", 13)), "nested 13 deep");
    }

    #[test]
    fn brackets_are_counted_before_the_parser_sees_them_and_not_in_strings_and_comments() {
        refuses("{a".repeat(20_000), "brackets");
        refuses(format!("{{a(b: {})}}", "[".repeat(30_000)), "brackets");
        let many = "{[(".repeat(100);
        assert_eq!(
            judged(format!("# {many}\n{{a(b: \"\\\"{many}\", c: \"\"\"{many} \\\"\"\" {many}\"\"\")}}")),
            Ok(())
        );
    }

    #[test]
    fn thirty_aliases_and_ten_root_fields_are_the_most() {
        let aliases = |count: usize| (0..count).map(|n| format!("a{n}: b ")).collect::<String>();
        assert_eq!(judged(format!("{{x{{{}}}}}", aliases(30))), Ok(()));
        refuses(format!("{{x{{{}}}}}", aliases(31)), "31 aliases");
        assert_eq!(judged(format!("{{{}}}", "a ".repeat(10))), Ok(()));
        refuses(format!("{{{}}}", "a ".repeat(11)), "11 fields at the top");
        refuses("{...F ...F} fragment F on Query {a b c d e f}", "12 fields at the top");
        refuses("subscription {a b}", "2 fields at the top");
    }

    #[test]
    fn fragments_that_multiply_or_spread_themselves_are_refused_at_once() {
        let mut bomb = "{a{...F0}}".to_owned();
        for n in 0..60 {
            bomb += &format!(" fragment F{n} on T {{...F{next} ...F{next}}}", next = n + 1);
        }
        refuses(bomb + " fragment F60 on T {b}", "selects more than 1000");
        refuses("{a{...F}} fragment F on T {...G} fragment G on T {...F}", "spreads itself");
        refuses((0..101).fold("{a}".to_owned(), |all, n| format!("{all} fragment F{n} on T {{b}}")), "fragments");
    }

    #[test]
    fn what_would_make_the_judge_work_long_is_refused() {
        refuses(format!("{{a{{{}}}}}", "b ".repeat(1_001)), "selects more than 1000");
        let arguments = (0..300).map(|n| format!("a{n}: 1 ")).collect::<String>();
        refuses(format!("{{a({arguments})}}"), "300 arguments");
        refuses(format!("{{a {}}}", "@skip(if: true) ".repeat(101)), "101 directives");
        refuses(format!("{{{}}}", "x".repeat(129)), "name");
        refuses(format!("{{a}} #{}", " ".repeat(MAX_DOCUMENT_BYTES)), "bytes");
    }

    #[test]
    fn introspection_as_tools_ask_for_it_passes_and_multiplied_introspection_does_not() {
        let kind =
            "name kind ofType{name ofType{name ofType{name ofType{name ofType{name ofType{name ofType{name}}}}}}}";
        let tools = format!("{{__schema{{types{{name fields{{name args{{name type{{{kind}}}}} type{{{kind}}}}}}}}}}}");
        assert_eq!(judged(tools), Ok(()));
        refuses("{__schema{types{fields{type{fields{type{name}}}}}}}", "Introspection");
        refuses("{__schema{types{...T}}} fragment T on __Type {possibleTypes{fields{name}}}", "Introspection");
    }

    #[test]
    fn a_list_costs_by_its_items_and_a_full_page_of_everything_is_allowed() {
        assert_eq!(list_cost(None, None, 5), 20);
        assert_eq!(list_cost(Some(100), None, 45), 500);
        assert_eq!(list_cost(None, Some(i32::MAX), 11), 200);
        assert_eq!(list_cost(Some(-1), None, 0), 1);
        assert_eq!(list_cost(Some(100), None, usize::MAX), 1_001);
    }

    #[test]
    fn lists_count_one_each_by_whatever_alias_or_fragment() {
        let asked = |query: &str, name: Option<&str>, variables: serde_json::Value| {
            let mut request = Request::new(query).variables(Variables::from_json(variables));
            request.operation_name = name.map(str::to_owned);
            admit(&mut request).unwrap();
            let Demand { lists, searches } = demand(&mut request);
            (lists, searches)
        };
        let plain = |query: &str| asked(query, None, serde_json::json!({}));
        assert_eq!(plain("{me{id}}"), (0, false));
        assert_eq!(plain("{paymentOrders{nodes{id}}}"), (1, false));
        assert_eq!(
            plain("{a: paymentOrders{totalCount} b: paymentOrders(filter: {search: \"x\"}){totalCount}}"),
            (2, true)
        );
        assert_eq!(plain("{...F ...F} fragment F on Query {x: paymentOrders{totalCount}}"), (2, false));
        assert_eq!(plain("{... on Query {paymentOrders(filter: {search: null}){totalCount}}}"), (1, false));
        assert_eq!(
            asked("query A {me{id}} query B {paymentOrders{totalCount}}", Some("A"), serde_json::json!({})),
            (0, false)
        );
        let whole = "query($f: F) {paymentOrders(filter: $f){totalCount}}";
        assert_eq!(asked(whole, None, serde_json::json!({"f": {"search": "x"}})), (1, true));
        assert_eq!(asked(whole, None, serde_json::json!({"f": {"nonce": "1"}})), (1, false));
        let part = "query($s: String = \"x\") {paymentOrders(filter: {search: $s}){totalCount}}";
        assert_eq!(asked(part, None, serde_json::json!({})), (1, true));
        assert_eq!(asked(part, None, serde_json::json!({"s": null})), (1, false));
    }

    /// A field that gives a connection is a list: none is left out of the table.
    #[test]
    fn every_connection_of_the_schema_is_counted_as_a_list() {
        let sdl = crate::graphql::sdl();
        let (mut name, mut lists) = ("", Vec::new());
        for line in sdl.lines().map(str::trim).filter(|line| !line.starts_with('"')) {
            // The arguments of a field stand in lines of their own, and its type behind the last bracket.
            if let Some(field) = line.strip_suffix('(') {
                name = field;
            }
            let Some((head, kind)) = line.rsplit_once(": ") else { continue };
            if kind.trim_end_matches('!').ends_with("Connection") {
                lists.push(if head == ")" { name } else { head });
            }
        }
        assert_eq!(lists, LISTS);
    }

    #[test]
    fn the_kind_of_the_chosen_operation_is_known() {
        let kind = |query: &str, name: Option<&str>| {
            let mut request = Request::new(query);
            request.operation_name = name.map(str::to_owned);
            kind_of(&mut request)
        };
        assert_eq!(kind("{a}", None), Some(OperationType::Query));
        assert_eq!(kind("query A {a} mutation B {b}", Some("B")), Some(OperationType::Mutation));
        assert_eq!(kind("query A {a} mutation B {b}", None), None);
        assert_eq!(kind("query A {a}", Some("C")), None);
    }

    proptest! {
        #[test]
        fn no_document_makes_the_limits_panic(
            parts in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "(", ")", "a", "...F", "fragment F on T ", "\"", "\"\"\"", "\\", "#", "\n", ":", "@x", "$v", "é", " ",
            ]), 0..60),
        ) {
            let _ = judged(parts.concat());
        }
    }
}
