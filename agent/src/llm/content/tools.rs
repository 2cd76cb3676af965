//! Tools that a request offers.

use super::{Budget, Clipped};
use crate::{
    llm::arguments::ValueWriter,
    protocol::json::{
        Step::{self, Key},
        Token,
    },
};

/// Most tools that are kept: agents with every tool of a dozen MCP servers offer some hundred.
const MAX_TOOLS: usize = 1024;

/// One tool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Definition {
    /// `function`, or what a tool of the provider's own is called; absent where the API has functions only.
    pub kind: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// What it does.
    pub description: Clipped,
    /// JSON schema of its arguments.
    pub parameters: Clipped,
}

/// The tools of a request while they are read. Details are kept only if the policy asks for them, and out of a budget
/// of their own, so that no schema takes the place of a later tool's name.
#[derive(Clone, Debug)]
pub(crate) struct ToolDefinitions {
    names: Budget,
    details: Budget,
    list: Vec<Definition>,
    /// Whether the last tool takes values.
    open: bool,
    /// Writes the last tool's parameters.
    schema: ValueWriter,
}

impl ToolDefinitions {
    /// None yet.
    pub fn new(cap: Option<usize>) -> Self {
        Self {
            names: Budget::new(cap),
            details: Budget::new(None),
            list: Vec::new(),
            open: false,
            schema: ValueWriter::default(),
        }
    }

    /// Keeps descriptions and parameters too, up to `cap`.
    pub fn keep_details(&mut self, cap: Option<usize>) {
        self.details = Budget::new(cap);
    }

    /// Keeps nothing more: bytes are missing.
    pub fn seal(&mut self) {
        self.names.seal();
        self.details.seal();
    }

    /// Takes a value of the list of tools; `base` is the number of steps to one of its elements. The APIs agree on the
    /// members and differ in what they wrap them in. What is for a tool of the provider's own (`authorization`,
    /// `headers`) is not looked at.
    pub fn take(&mut self, base: usize, path: &[Step<'_>], token: Token<'_>) {
        let Some(rest) = path.get(base..).filter(|_| self.names.is_on()) else { return };
        let rest = match rest {
            [] if token == Token::ObjectStart => return self.begin(),
            [Key("function" | "custom" | "toolSpec"), inner @ ..] => inner,
            rest => rest,
        };
        match rest {
            [Key("type")] => {
                let kind = self.names.name(token);
                if let Some(tool) = self.current() {
                    tool.kind = kind;
                }
            }
            [Key("name")] => {
                let name = self.names.name(token);
                if let Some(tool) = self.current() {
                    tool.name = name;
                }
            }
            [Key("description")] => {
                let Self { details, list, open, .. } = self;
                if let Some(tool) = list.last_mut().filter(|_| *open) {
                    tool.description.push_token(token, details);
                }
            }
            // Bedrock has a step more.
            [Key("inputSchema"), Key("json"), inner @ ..]
            | [Key("parameters" | "input_schema" | "parametersJsonSchema"), inner @ ..] => {
                let Self { details, list, open, schema, .. } = self;
                if let Some(tool) = list.last_mut().filter(|_| *open && details.is_on()) {
                    schema.push(path.len() - inner.len(), path, token, &mut tool.parameters, details);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self) {
        self.open = self.list.len() < MAX_TOOLS && self.names.charge();
        match self.open {
            true => {
                self.list.push(Definition::default());
                self.schema = ValueWriter::default();
            }
            false => self.names.cut |= self.names.is_on(),
        }
    }

    fn current(&mut self) -> Option<&mut Definition> {
        self.list.last_mut().filter(|_| self.open)
    }

    /// The tools, and whether something was left out.
    pub fn into_definitions(self) -> (Vec<Definition>, bool) {
        let Self { names, details, list, open: _, schema: _ } = self;
        (list, names.cut || details.cut)
    }

    /// Bytes held, for tests of the bound.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        let of = |tool: &Definition| tool.description.text.capacity() + tool.parameters.text.capacity();
        self.list.iter().map(of).sum::<usize>() + self.list.capacity() * size_of::<Definition>()
    }
}
