//! What a pickle may build. Objects refer to each other by number, so that cycles and depth are nothing special.

use std::collections::HashMap;

use super::tensor::Kind;

/// The number of an object.
pub(super) type Id = u32;

/// Most objects; a ResNet-152's state dictionary has about 20,000.
const MOST: usize = 1 << 20;

/// What may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    OrderedDict,
    /// `_rebuild_tensor_v2`, and `_rebuild_tensor`, whose arguments are the first four.
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

/// A range of bytes that tensors are cut from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    pub kind: Kind,
    pub key: String,
    /// Elements in it.
    pub length: u64,
}

/// A tensor's place in a storage, in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    pub storage: Id,
    pub offset: u64,
    pub dims: Vec<u64>,
    pub strides: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object {
    None,
    Bool(bool),
    /// Numbers beyond 64 bits and floats are only passed over: no tensor's place needs them.
    Int(i64),
    OtherNumber,
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Name(Name),
    Storage(Storage),
    Tensor(Cut),
}

/// All objects of a pickle.
#[derive(Debug, Default)]
pub(super) struct Objects(Vec<Object>);

impl Objects {
    pub fn add(&mut self, object: Object) -> Result<Id, String> {
        if self.0.len() >= MOST {
            return Err(format!("it has more than {MOST} objects, which no state dictionary has"));
        }
        self.0.push(object);
        Ok((self.0.len() - 1) as Id)
    }

    pub fn get(&self, id: Id) -> &Object {
        self.0.get(id as usize).unwrap_or(&Object::None)
    }

    pub fn get_mut(&mut self, id: Id) -> Option<&mut Object> {
        self.0.get_mut(id as usize)
    }

    pub fn int(&self, id: Id) -> Result<i64, String> {
        match self.get(id) {
            Object::Int(n) => Ok(*n),
            other => Err(format!("a number is needed where {} is", other.what())),
        }
    }

    /// A count, a place or a size.
    pub fn size(&self, id: Id) -> Result<u64, String> {
        let n = self.int(id)?;
        u64::try_from(n).map_err(|_| format!("a size is {n}"))
    }

    pub fn text(&self, id: Id) -> Result<&str, String> {
        match self.get(id) {
            Object::Text(text) => Ok(text),
            other => Err(format!("text is needed where {} is", other.what())),
        }
    }

    pub fn items(&self, id: Id) -> Result<&[Id], String> {
        match self.get(id) {
            Object::Tuple(items) | Object::List(items) => Ok(items),
            other => Err(format!("a tuple is needed where {} is", other.what())),
        }
    }

    pub fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.0.iter().filter_map(|object| match object {
            Object::Storage(storage) => Some(storage),
            _ => None,
        })
    }

    /// The tensors of the state dictionary that `root` is or holds, by name.
    pub fn state(&self, root: Id) -> Result<HashMap<&str, (&Cut, &Storage)>, String> {
        let Object::Dict(entries) = self.get(root) else {
            return Err(format!("it holds {}, and no state dictionary: save `network.state_dict()`", self.get(root).what()));
        };
        let is_tensor = |(_, value): &&(Id, Id)| matches!(self.get(*value), Object::Tensor(_));
        let tensors = entries.iter().filter(is_tensor).count();
        if tensors == 0 {
            let inner = ["state_dict", "model_state_dict", "model"].iter().find_map(|name| {
                entries.iter().find(|(key, value)| self.text(*key) == Ok(name) && matches!(self.get(*value), Object::Dict(_)))
            });
            // One step only: a dictionary that holds itself ends there too.
            let Some((_, inner)) = inner else { return Ok(HashMap::new()) };
            return self.tensors(*inner);
        }
        self.tensors(root)
    }

    fn tensors(&self, dict: Id) -> Result<HashMap<&str, (&Cut, &Storage)>, String> {
        let Object::Dict(entries) = self.get(dict) else { return Ok(HashMap::new()) };
        let mut found = HashMap::new();
        for (key, value) in entries {
            let Object::Tensor(cut) = self.get(*value) else { continue };
            let Object::Storage(storage) = self.get(cut.storage) else { continue };
            found.insert(self.text(*key)?, (cut, storage));
        }
        Ok(found)
    }
}

impl Object {
    /// What it is, for messages.
    pub fn what(&self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::OtherNumber => "a number",
            Self::Text(_) => "text",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Name(_) => "a name",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a single tensor",
        }
    }
}
