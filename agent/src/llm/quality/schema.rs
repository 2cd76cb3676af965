//! What the request's tools say of their arguments, as far as it is small.
//!
//! A subset of JSON Schema on purpose: which members must be there and which primitive type each has, both of the
//! outermost object only. Names are kept as hashes. A tool whose parameters do not fit is not judged.

use std::hash::{DefaultHasher, Hasher as _};

use crate::protocol::json::{
    Step::{self, Index, Key},
    Token,
};

/// Tools noted of one request. Coding agents offer some dozens.
const MAX_TOOLS: usize = 64;

/// Members noted of all tools of one request together, at 16 bytes each.
const MAX_MEMBERS: usize = 256;

/// Members noted of one call's arguments.
const MAX_KEYS: usize = 32;

/// A set of JSON types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Types(u8);

impl Types {
    const STRING: Self = Self(1);
    const INTEGER: Self = Self(2);
    const FRACTION: Self = Self(4);
    const BOOLEAN: Self = Self(8);
    const NULL: Self = Self(16);
    const OBJECT: Self = Self(32);
    const ARRAY: Self = Self(64);

    /// Type of the value that `token` is or begins.
    pub fn of(token: Token<'_>) -> Option<Self> {
        Some(match token {
            Token::ObjectStart => Self::OBJECT,
            Token::ArrayStart => Self::ARRAY,
            Token::String { .. } => Self::STRING,
            // JSON Schema counts 1.0 as an integer.
            Token::Number(text) if text.parse().is_ok_and(|value: f64| value.fract() == 0.0) => Self::INTEGER,
            Token::Number(_) => Self::FRACTION,
            Token::Bool(_) => Self::BOOLEAN,
            Token::Null => Self::NULL,
            Token::ObjectEnd | Token::ArrayEnd | Token::Piece(_) => return None,
        })
    }

    /// The types that a schema's word allows; Gemini writes them in capitals.
    fn named(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "string" => Self::STRING,
            "integer" => Self::INTEGER,
            "number" => Self(Self::INTEGER.0 | Self::FRACTION.0),
            "boolean" => Self::BOOLEAN,
            "null" => Self::NULL,
            "object" => Self::OBJECT,
            "array" => Self::ARRAY,
            _ => return None,
        })
    }

    fn allows(self, other: Self) -> bool {
        // A member whose type is not told may have any.
        self.0 == 0 || self.0 & other.0 != 0
    }
}

/// Members of an arguments object and their types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    keys: Vec<(u64, Types)>,
    /// There were more than are noted.
    more: bool,
}

impl Keys {
    /// Notes a member. The last one of a name holds, as it does in every parser.
    pub fn add(&mut self, key: &str, types: Types) {
        let key = hash(key);
        if let Some((_, known)) = self.keys.iter_mut().find(|(known, _)| *known == key) {
            *known = types;
        } else if self.keys.len() < MAX_KEYS {
            self.keys.push((key, types));
        } else {
            self.more = true;
        }
    }
}

/// A declared member.
#[derive(Clone, Copy, Debug)]
struct Member {
    tool: u16,
    required: bool,
    types: Types,
    key: u64,
}

/// The request's tools, while and after they are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schemas {
    /// Hashes of the names, by number; 0 until the name was read.
    tools: Vec<u64>,
    members: Vec<Member>,
    /// Tools that are not judged: their parameters did not fit or say more than is read.
    left_out: u64,
}

impl Schemas {
    /// Takes a value of the request.
    pub fn take(&mut self, path: &[Step<'_>], token: Token<'_>) {
        let (number, rest) = match path {
            [Key("tools" | "functions"), Index(i), rest @ ..] => match rest {
                // Gemini has all functions in one tool.
                [Key("functionDeclarations" | "function_declarations"), Index(j), rest @ ..] => (i + j, rest),
                _ => (*i, rest),
            },
            [Key("toolConfig"), Key("tools"), Index(i), Key("toolSpec"), rest @ ..] => (*i, rest),
            _ => return,
        };
        let number = number as usize;
        if number >= MAX_TOOLS {
            return;
        }
        let rest = rest.strip_prefix(&[Key("function")]).unwrap_or(rest);
        match (rest, token) {
            ([Key("name")], Token::String { text, truncated: false }) => {
                if self.tools.len() <= number {
                    self.tools.resize(number + 1, 0);
                }
                // Two lists of functions in one request have the same numbers.
                let twice = self.tools.get(number).is_some_and(|known| *known != 0);
                if twice {
                    self.leave_out(number as u16);
                } else if let Some(tool) = self.tools.get_mut(number) {
                    *tool = hash(text);
                }
            }
            ([Key("parameters" | "input_schema" | "parametersJsonSchema"), rest @ ..], _)
            | ([Key("inputSchema"), Key("json"), rest @ ..], _) => self.parameters(number as u16, rest, token),
            _ => {}
        }
    }

    fn parameters(&mut self, tool: u16, rest: &[Step<'_>], token: Token<'_>) {
        match (rest, token) {
            ([Key("required"), Index(_)], Token::String { text, .. }) => {
                if let Some(member) = self.member(tool, text) {
                    member.required = true;
                }
            }
            (
                [Key("properties"), Key(key), Key("type")] | [Key("properties"), Key(key), Key("type"), Index(_)],
                Token::String { text, .. },
            ) => {
                let types = Types::named(text);
                if let Some(member) = self.member(tool, key) {
                    match types {
                        Some(types) => member.types.0 |= types.0,
                        None => member.types = Types(u8::MAX),
                    }
                }
            }
            ([Key("properties"), Key(key), Key("nullable")], Token::Bool(true)) => {
                if let Some(member) = self.member(tool, key) {
                    member.types.0 |= Types::NULL.0;
                }
            }
            // Alternatives and references may allow anything.
            ([Key("anyOf" | "oneOf" | "allOf" | "$ref" | "if" | "not")], _) => self.leave_out(tool),
            _ => {}
        }
    }

    fn member(&mut self, tool: u16, key: &str) -> Option<&mut Member> {
        let key = hash(key);
        let at = match self.members.iter().position(|member| member.tool == tool && member.key == key) {
            Some(at) => at,
            None if self.members.len() >= MAX_MEMBERS => {
                self.leave_out(tool);
                return None;
            }
            None => {
                self.members.push(Member { tool, required: false, types: Types::default(), key });
                self.members.len() - 1
            }
        };
        self.members.get_mut(at)
    }

    fn leave_out(&mut self, tool: u16) {
        self.left_out |= 1u64.checked_shl(tool.into()).unwrap_or(0);
    }

    /// Whether arguments with these members are what the tool `name` asked for; true if that cannot be told.
    pub fn allow(&self, name: &str, given: &Keys) -> bool {
        let name = hash(name);
        let Some(tool) = self.tools.iter().position(|known| *known == name) else { return true };
        if self.left_out >> tool & 1 == 1 {
            return true;
        }
        let mut declared = self.members.iter().filter(|member| usize::from(member.tool) == tool);
        declared.all(|member| match given.keys.iter().find(|(key, _)| *key == member.key) {
            Some((_, types)) => member.types.allows(*types),
            None => !member.required || given.more,
        })
    }
}

/// Names are only compared within one call, by whoever wrote both of them.
fn hash(text: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    hash.write(text.as_bytes());
    hash.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::json::Scanner;

    fn schemas(request: &Value) -> Schemas {
        let mut schemas = Schemas::default();
        Scanner::new(256).push(request.to_string().as_bytes(), &mut |path, token| schemas.take(path, token));
        schemas
    }

    fn allows(schemas: &Schemas, name: &str, arguments: &Value) -> bool {
        let mut keys = Keys::default();
        for (key, value) in arguments.as_object().unwrap() {
            Scanner::new(9).push((value.to_string() + " ").as_bytes(), &mut |path, token| {
                if let ([], Some(types)) = (path, Types::of(token)) {
                    keys.add(key, types);
                }
            });
        }
        schemas.allow(name, &keys)
    }

    fn weather() -> Value {
        json!({"type": "object", "required": ["city", "days"], "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "scale": {"type": ["number", "null"]},
            "any": {"description": "free"}}})
    }

    #[test]
    fn every_api_s_way_to_declare_a_tool() {
        for request in [
            json!({"tools": [{"type": "function", "function": {"name": "weather", "parameters": weather()}}]}),
            json!({"tools": [{"type": "function", "name": "weather", "parameters": weather()}]}),
            json!({"tools": [{"name": "weather", "input_schema": weather()}]}),
            json!({"tools": [{"functionDeclarations": [{"name": "x"}, {"name": "weather", "parameters": weather()}]}]}),
            json!({"functions": [{"name": "weather", "parameters": weather()}]}),
        ] {
            let schemas = schemas(&request);
            assert!(allows(&schemas, "weather", &json!({"city": "Rome", "days": 3})), "{request}");
            assert!(!allows(&schemas, "weather", &json!({"city": "Rome"})), "{request}");
            assert!(!allows(&schemas, "weather", &json!({"city": 5, "days": 3})), "{request}");
        }
        // The types of Converse lie deeper than paths are told.
        let converse =
            json!({"toolConfig": {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": weather()}}}]}});
        assert!(!allows(&schemas(&converse), "weather", &json!({"city": "Rome"})));
    }

    #[test]
    fn types_are_sets_and_what_is_not_declared_may_be_anything() {
        let schemas = schemas(&json!({"tools": [{"name": "weather", "input_schema": weather()}]}));
        let with = |key: &str, value: Value| {
            let mut arguments = json!({"city": "Rome", "days": 3});
            arguments[key] = value;
            allows(&schemas, "weather", &arguments)
        };
        assert!(with("scale", json!(null)) && with("scale", json!(1.5)) && with("scale", json!(1)));
        assert!(!with("scale", json!("big")) && !with("days", json!(1.5)) && !with("days", json!("3")));
        assert!(with("days", json!(3.0)) && with("any", json!([1])) && with("other", json!({})));
        assert!(allows(&schemas, "unknown", &json!({})));
    }

    #[test]
    fn what_says_more_than_is_read_is_not_judged() {
        let mut parameters = weather();
        parameters["anyOf"] = json!([{"required": ["city"]}]);
        let schemas = schemas(&json!({"tools": [{"name": "weather", "input_schema": parameters}]}));
        assert!(allows(&schemas, "weather", &json!({})));
    }

    #[test]
    fn hostile_numbers_of_tools_and_members_are_bounded() {
        let tool = |i: usize| {
            let required: Vec<String> = (0..50).map(|k| format!("k{k}")).collect();
            json!({"name": format!("t{i}"), "input_schema": {"required": required}})
        };
        let schemas = schemas(&json!({"tools": (0..1_000).map(tool).collect::<Vec<_>>()}));
        assert_eq!((schemas.tools.len(), schemas.members.len()), (MAX_TOOLS, MAX_MEMBERS));
        assert!(!allows(&schemas, "t0", &json!({})), "noted in full");
        assert!(allows(&schemas, "t60", &json!({})), "not noted in full");
    }
}
