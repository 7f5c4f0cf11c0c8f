//! The policies of the directories of a source.
//!
//! The root has the effective policy; a directory below has the policy that is defined for it *as
//! it is*, or that of its parent. Nodes lie in one flat list, so that a path of a million
//! components costs no stack.

use super::target::{DefinedPolicy, hierarchy, nested_path};
use super::{Policy, effective_policy};
use crate::snapshot::SourceInfo;
use std::collections::HashMap;
use std::sync::Arc;

/// A directory in the tree of policies; cheap to clone.
#[derive(Debug, Clone)]
pub struct PolicyTree {
    nodes: Arc<Vec<Node>>,
    node: usize,
    /// The directory lies below `node` where the tree has nothing: no policy of its own, none below.
    below: bool,
}

#[derive(Debug)]
struct Node {
    policy: Arc<Policy>,
    inherited: bool,
    children: HashMap<Vec<u8>, usize>,
}

impl PolicyTree {
    /// The tree of `source`, given all policies of the repository (others than those that concern it are left out).
    ///
    /// Where two are defined for one target, the earlier in `defined` counts: give them in the
    /// order of modification, as Kopia finds them.
    pub fn for_source(source: &SourceInfo, defined: &[DefinedPolicy]) -> Self {
        let concerning =
            |target: &SourceInfo| defined.iter().filter(|policy| policy.target == *target).collect();
        let by_level: Vec<Vec<&DefinedPolicy>> = hierarchy(source).iter().map(concerning).collect();
        let mut all = by_level.into_iter().flatten().peekable();
        let own = all.next_if(|policy| policy.target == *source).map(|policy| &policy.policy);
        let root = effective_policy(own, all.map(|policy| &policy.policy));
        let same_user =
            |target: &SourceInfo| target.host == source.host && target.user_name == source.user_name;
        let below = defined.iter().filter(|policy| same_user(&policy.target)).filter_map(|defined| {
            nested_path(&source.path, &defined.target.path).map(|path| (path, defined.policy.clone()))
        });
        Self::new(root, below)
    }
    /// The tree with `root` as effective policy of the root and the policies of paths below it (`a/b`).
    ///
    /// Where two are given for one path, the later counts.
    pub fn new(root: Policy, below: impl IntoIterator<Item = (String, Policy)>) -> Self {
        let mut nodes = vec![Node { policy: Arc::new(root), inherited: false, children: HashMap::new() }];
        for (path, policy) in below {
            let mut node = 0;
            for name in path.split('/') {
                node = child_or_new(&mut nodes, node, name.as_bytes());
            }
            nodes[node].policy = Arc::new(policy);
            nodes[node].inherited = false;
        }
        inherit(&mut nodes);
        Self { nodes: Arc::new(nodes), node: 0, below: false }
    }
    /// The directory `name` (or `a/b`) in this one; `.` and the empty name are this one.
    #[must_use]
    pub fn child(&self, name: &[u8]) -> Self {
        name.split(|&byte| byte == b'/').fold(self.clone(), |tree, part| match part {
            b"" | b"." => tree,
            part => tree.named(part),
        })
    }
    fn named(&self, name: &[u8]) -> Self {
        let found = (!self.below).then(|| self.nodes[self.node].children.get(name)).flatten();
        Self {
            nodes: Arc::clone(&self.nodes),
            node: found.copied().unwrap_or(self.node),
            below: found.is_none(),
        }
    }
    /// The policy that is defined for just this directory (for the root: the effective one).
    pub fn defined_policy(&self) -> Option<&Policy> {
        let node = &self.nodes[self.node];
        (!self.below && !node.inherited).then_some(&node.policy)
    }
    /// The policy that applies to the directory.
    pub fn effective_policy(&self) -> &Policy {
        &self.nodes[self.node].policy
    }
}

/// The child of a node, made if it is not there.
fn child_or_new(nodes: &mut Vec<Node>, parent: usize, name: &[u8]) -> usize {
    if let Some(&child) = nodes[parent].children.get(name) {
        return child;
    }
    let child = nodes.len();
    let policy = Arc::clone(&nodes[parent].policy);
    nodes.push(Node { policy, inherited: true, children: HashMap::new() });
    nodes[parent].children.insert(name.to_vec(), child);
    child
}

/// Gives each node without a policy that of its parent. Parents come before their children in the list.
fn inherit(nodes: &mut [Node]) {
    for parent in 0..nodes.len() {
        let policy = Arc::clone(&nodes[parent].policy);
        let children: Vec<usize> = nodes[parent].children.values().copied().collect();
        for child in children {
            if nodes[child].inherited {
                nodes[child].policy = Arc::clone(&policy);
            }
        }
    }
}
