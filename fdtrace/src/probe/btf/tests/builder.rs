//! Writes BTF type by type. Numbers of types are returned, and may be used before they exist.

pub(super) const INT: u32 = 1;
pub(super) const PTR: u32 = 2;
pub(super) const ARRAY: u32 = 3;
pub(super) const STRUCT: u32 = 4;
pub(super) const UNION: u32 = 5;
pub(super) const ENUM: u32 = 6;
pub(super) const FWD: u32 = 7;
pub(super) const TYPEDEF: u32 = 8;
pub(super) const VOLATILE: u32 = 9;
pub(super) const CONST: u32 = 10;
pub(super) const RESTRICT: u32 = 11;
pub(super) const FUNC: u32 = 12;
pub(super) const FUNC_PROTO: u32 = 13;
pub(super) const VAR: u32 = 14;
pub(super) const DATASEC: u32 = 15;
pub(super) const FLOAT: u32 = 16;
pub(super) const DECL_TAG: u32 = 17;
pub(super) const TYPE_TAG: u32 = 18;
pub(super) const ENUM64: u32 = 19;
/// `kind_flag` of `btf_type.info`, to be added to a kind.
pub(super) const FLAG: u32 = 0x80;

pub(super) struct Builder {
    types: Vec<u32>,
    strings: Vec<u8>,
    count: u32,
    layout: Option<Vec<u8>>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            count: 0,
            layout: None,
        }
    }

    /// The number the next type gets.
    pub(super) fn next(&self) -> u32 {
        self.count + 1
    }

    pub(super) fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    /// Any record: `kind` may carry [`FLAG`], `vlen` may lie.
    pub(super) fn raw(&mut self, name: u32, kind: u32, vlen: u32, word: u32, tail: &[u32]) -> u32 {
        self.types.extend([name, kind << 24 | vlen, word]);
        self.types.extend(tail);
        self.count += 1;
        self.count
    }

    /// An integer of `size` bytes that uses all of them.
    pub(super) fn int(&mut self, name: &str, size: u32) -> u32 {
        let name = self.name(name);
        self.raw(name, INT, 0, size, &[size * 8])
    }

    /// A type that is only a reference: pointer, qualifier, tag, `typedef`, forward declaration.
    pub(super) fn refer(&mut self, kind: u32, name: &str, to: u32) -> u32 {
        let name = self.name(name);
        self.raw(name, kind, 0, to, &[])
    }

    pub(super) fn array(&mut self, of: u32, len: u32) -> u32 {
        self.raw(0, ARRAY, 0, 0, &[of, 0, len])
    }

    /// A struct or union; members are name, type and place, which is a bit offset.
    pub(super) fn structure(
        &mut self,
        kind: u32,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let name = self.name(name);
        let vlen = u32::try_from(members.len()).unwrap();
        let tail: Vec<u32> = members
            .iter()
            .flat_map(|&(name, of, place)| [self.name(name), of, place])
            .collect();
        self.raw(name, kind, vlen, size, &tail)
    }

    pub(super) fn enumeration(&mut self, kind: u32, name: &str, values: &[(&str, u32)]) -> u32 {
        let name = self.name(name);
        let vlen = u32::try_from(values.len()).unwrap();
        let tail: Vec<u32> = values
            .iter()
            .flat_map(|&(name, value)| [self.name(name), value])
            .collect();
        self.raw(name, kind, vlen, 4, &tail)
    }

    /// A function and its prototype.
    pub(super) fn function(&mut self, name: &str, returns: u32, parameters: &[(&str, u32)]) -> u32 {
        let vlen = u32::try_from(parameters.len()).unwrap();
        let tail: Vec<u32> = parameters
            .iter()
            .flat_map(|&(name, of)| [self.name(name), of])
            .collect();
        let prototype = self.raw(0, FUNC_PROTO, vlen, returns, &tail);
        self.refer(FUNC, name, prototype)
    }

    /// Adds a layout section: `info_sz` and `elem_sz` by kind.
    pub(super) fn layout(&mut self, kinds: &[(u8, u8)]) {
        self.layout = Some(
            kinds
                .iter()
                .flat_map(|&(once, each)| [once, each, 0, 0])
                .collect(),
        );
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let len = |bytes: usize| u32::try_from(bytes).unwrap();
        let types = len(self.types.len() * 4);
        let strings = len(self.strings.len());
        let mut header = vec![0x0001_eb9f, 24, 0, types, types, strings];
        if let Some(layout) = &self.layout {
            header[1] = 32;
            header.extend([types + strings, len(layout.len())]);
        }
        let words = header.into_iter().chain(self.types);
        let mut bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
        bytes.extend(self.strings);
        bytes.extend(self.layout.unwrap_or_default());
        bytes
    }
}
