//! Branches of patterns, laid over one another by their paths, and what is noted of them while an event goes by.
//!
//! A tree holds at most [`BRANCHES`] branches, each a bit of a [`Mask`]. Its nodes stand in depth-first order, so a
//! subtree is a range. A [`Frame`] has a [`Slot`] for each node of one: the event has one frame, and each element of
//! an array has its own where several clauses of a branch must meet in one element. When a frame ends, its slots
//! come down to the branches that it satisfies.
//!
//! Invariant: what is noted of a value does not depend on the order of the event's members.

use super::compile::{Branch, Clause, Pattern};
use super::operator::{Operator, Scalar};

/// Branches, a bit for each.
pub(super) type Mask = u64;

/// As many as a tree holds.
pub(super) const BRANCHES: usize = 64;

/// The branches' clauses by path.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// A frame of all nodes as it begins.
    blank: Vec<Slot>,
    /// What holds in a frame of each node's subtree in which nothing is noted.
    blank_held: Vec<Held>,
    /// Branches that no later value can make wrong.
    lasting: Mask,
}

/// A path of some branch, or the beginning of one.
#[derive(Debug)]
struct Node {
    /// Its subtree ends before that node.
    end: usize,
    parent: usize,
    children: Box<[Child]>,
    /// Branches with a clause here.
    here: Mask,
    /// Of these, those that want no value.
    absent: Mask,
    /// Arrays of elements, and the branches that want a value to satisfy one of them.
    values: Box<[(Box<[Operator]>, Mask)]>,
    /// Branches with a clause in this subtree.
    within: Mask,
    /// Of these, those with a clause that wants a value.
    positive: Mask,
    /// Branches with a clause below this node that wants a value.
    positive_below: Mask,
    /// A branch has several clauses in this subtree: they must meet in one element of an array.
    joint: bool,
    /// Some path has two more names than this: members with dots may meet it.
    deep: bool,
}

#[derive(Debug)]
struct Child {
    name: Box<[u8]>,
    node: usize,
}

/// What is known of a node's path.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Branches whose clause here holds.
    here: Mask,
    /// Branches whose clauses in the subtree hold together in an element of an array.
    joint: Mask,
    /// As `joint`, but for the clause here: a value that is itself an element goes with every other element.
    joint_below: Mask,
    /// Branches whose clauses below hold; made up anew whenever the frame is judged.
    below: Mask,
}

/// What holds in a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Branches whose clauses in the subtree hold.
    pub(super) all: Mask,
    /// Branches whose clauses below its root hold, or that have none there, and that do not want absence where a value
    /// is.
    below: Mask,
}

/// A node of a tree, and the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(usize);

impl NodeId {
    pub(super) const ROOT: Self = Self(0);
}

/// Where the slots of a subtree begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    start: usize,
    root: usize,
    /// Something is noted in the frames around it.
    noted_around: bool,
}

/// More are not kept for the next event.
const SLOTS_KEPT_MAX: usize = 16 * 1024;

/// The slots of all frames that are open. Kept between events, it allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Slots {
    open: Vec<Slot>,
    /// Something is noted in the frame that was opened last: else it is as it began, and need not be judged.
    noted: bool,
}

impl Tree {
    /// A tree of branches, each with the number of its pattern.
    pub(super) fn new(branches: &[(usize, Branch)], patterns: &[&Pattern]) -> Self {
        assert!(branches.len() <= BRANCHES, "a tree has a bit for each");
        let mut sketch = Sketch::default();
        let mut lasting = 0;
        for (at, (pattern, branch)) in branches.iter().enumerate() {
            let bit: Mask = 1 << at;
            lasting |= bit;
            for (path, clause) in branch {
                let node = sketch.reach(path);
                match clause {
                    Clause::Absent(_) => {
                        lasting &= !bit;
                        node.absent |= bit;
                    }
                    Clause::Value(array) => node.add_values((*pattern, *array), bit),
                }
            }
        }
        let mut nodes = Vec::new();
        sketch.lay_out(0, patterns, &mut nodes);
        let blank = nodes.iter().map(Node::blank).collect();
        let mut tree = Self {
            nodes,
            blank,
            blank_held: Vec::new(),
            lasting,
        };
        let mut slots = Slots::default();
        let nodes = (0..tree.nodes.len()).map(NodeId);
        tree.blank_held = nodes
            .map(|node| {
                let frame = tree.open(node, &mut slots);
                let held = tree.judge(frame, &mut slots);
                slots.clear();
                held
            })
            .collect();
        tree
    }

    /// The node of that member, if a path goes on with it. Members with dots in their names are paths of their own.
    #[inline]
    pub(super) fn child(&self, node: NodeId, name: &[u8]) -> Option<NodeId> {
        let Node { children, deep, .. } = &self.nodes[node.0];
        if let Some(found) = find(children, name) {
            return Some(found);
        }
        if !deep {
            return None;
        }
        let (first, rest) = name.split_at_checked(name.iter().position(|it| *it == b'.')?)?;
        self.child(find(children, first)?, rest.get(1..)?)
    }

    /// Whether paths go on from there.
    #[inline]
    pub(super) fn goes_on(&self, node: NodeId) -> bool {
        !self.nodes[node.0].children.is_empty()
    }

    /// Whether a clause stands there.
    #[inline]
    pub(super) fn ends_here(&self, node: NodeId) -> bool {
        self.nodes[node.0].here != 0
    }

    /// Whether an array's elements there need a frame each.
    #[inline]
    pub(super) fn is_joint(&self, node: NodeId) -> bool {
        self.nodes[node.0].joint
    }

    /// Opens a frame for that subtree.
    pub(super) fn open(&self, node: NodeId, slots: &mut Slots) -> Frame {
        let start = slots.open.len();
        let subtree = node.0..self.nodes[node.0].end;
        slots.open.extend_from_slice(&self.blank[subtree]);
        Frame {
            start,
            root: node.0,
            noted_around: std::mem::take(&mut slots.noted),
        }
    }

    /// Ends the frame that was opened last.
    pub(super) fn close(&self, frame: Frame, slots: &mut Slots) -> Held {
        let held = match slots.noted {
            true => self.judge(frame, slots),
            false => self.blank_held[frame.root],
        };
        slots.open.truncate(frame.start);
        slots.noted |= frame.noted_around;
        held
    }

    /// Whether a branch is satisfied as it stands.
    pub(super) fn holds(&self, frame: Frame, slots: &mut Slots) -> bool {
        self.judge(frame, slots).all != 0
    }

    /// Whether a branch is satisfied already, whatever follows.
    #[inline]
    pub(super) fn is_certain(&self, frame: Frame, slots: &mut Slots) -> bool {
        self.lasting != 0 && self.judge(frame, slots).all & self.lasting != 0
    }

    /// What holds in the frame, as it stands.
    fn judge(&self, frame: Frame, slots: &mut Slots) -> Held {
        let nodes = &self.nodes[frame.root..self.nodes[frame.root].end];
        let slots = &mut slots.open[frame.start..][..nodes.len()];
        for at in (0..nodes.len()).rev() {
            let (node, slot) = (&nodes[at], &mut slots[at]);
            let below = either(slot.below, slot.joint_below, node.positive_below);
            slot.below = Mask::MAX;
            let own = below & (slot.here | !node.here);
            // A value that is itself an element counts against absence in every other element.
            let none = slot.here | !node.absent;
            let all = either(own, slot.joint, node.positive) & none & node.within;
            if at == 0 {
                let below = below & none;
                return Held { all, below };
            }
            slots[node.parent - frame.root].below &= all | !node.within;
        }
        Held { all: 0, below: 0 }
    }

    /// Notes a value at a node's path. True if more holds than before.
    #[inline]
    pub(super) fn note(
        &self,
        node: NodeId,
        frame: Frame,
        slots: &mut Slots,
        scalar: &Scalar<'_>,
    ) -> bool {
        let slot = &mut slots.open[frame.start + node.0 - frame.root];
        let node = &self.nodes[node.0];
        let before = slot.here;
        for (operators, branches) in &node.values {
            if slot.here & branches != *branches && operators.iter().any(|it| it.matches(scalar)) {
                slot.here |= branches;
            }
        }
        let more = slot.here != before;
        slot.here &= !node.absent;
        slots.noted |= slot.here != before;
        more
    }

    /// Notes what holds in an element of an array at that node's path. True if more may hold than before.
    pub(super) fn note_element(
        &self,
        node: NodeId,
        frame: Frame,
        slots: &mut Slots,
        held: Held,
    ) -> bool {
        let slot = &mut slots.open[frame.start + node.0 - frame.root];
        let node = &self.nodes[node.0];
        let before = (slot.joint, slot.joint_below);
        slot.joint = either(slot.joint, held.all, node.positive);
        slot.joint_below = either(slot.joint_below, held.below, node.positive_below);
        let more = before != (slot.joint, slot.joint_below);
        slots.noted |= more;
        more
    }

    /// Ends the frames that were opened behind that one.
    pub(super) fn drop_inner(&self, frame: Frame, slots: &mut Slots) {
        let size = self.nodes[frame.root].end - frame.root;
        slots.open.truncate(frame.start + size);
        // Of that frame nobody knows any more.
        slots.noted = true;
    }

    /// Forgets what was noted in that subtree.
    pub(super) fn renew(&self, node: NodeId, frame: Frame, slots: &mut Slots) {
        let subtree = node.0..self.nodes[node.0].end;
        let start = frame.start + node.0 - frame.root;
        slots.open[start..][..subtree.len()].copy_from_slice(&self.blank[subtree]);
    }

    /// What the clauses in that subtree say does not count.
    pub(super) fn waive(&self, node: NodeId, frame: Frame, slots: &mut Slots) {
        self.renew(node, frame, slots);
        let slot = &mut slots.open[frame.start + node.0 - frame.root];
        slot.here = Mask::MAX;
        slot.joint = Mask::MAX;
        slot.joint_below = Mask::MAX;
        slots.noted = true;
    }
}

/// More children than this are looked for by halves.
const CHILDREN_ONE_BY_ONE: usize = 8;

#[inline]
fn find(children: &[Child], name: &[u8]) -> Option<NodeId> {
    let found = match children.len() {
        0..=CHILDREN_ONE_BY_ONE => children.iter().find(|it| *it.name == *name)?,
        _ => {
            let at = children.binary_search_by(|it| (*it.name).cmp(name)).ok()?;
            &children[at]
        }
    };
    Some(NodeId(found.node))
}

/// What wants a value has it in one place or the other; what wants none has none in either.
#[inline]
fn either(one: Mask, other: Mask, positive: Mask) -> Mask {
    ((one | other) & positive) | (one & other & !positive)
}

impl Slots {
    /// Forgets what an event left, and the room for it if that was unusual.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.noted = false;
        if self.open.capacity() > SLOTS_KEPT_MAX {
            self.open = Vec::new();
        }
    }
}

impl Node {
    /// A node's slot before anything is known: what is to be absent is.
    fn blank(&self) -> Slot {
        Slot {
            here: self.absent,
            joint: self.within & !self.positive,
            joint_below: !self.positive_below,
            below: Mask::MAX,
        }
    }
}

/// A tree that is being made.
#[derive(Default)]
struct Sketch {
    children: Vec<(Vec<u8>, Sketch)>,
    absent: Mask,
    /// The number of a pattern and of its array, and the branches that want that.
    values: Vec<((usize, usize), Mask)>,
}

impl Sketch {
    /// The node of a path from here; made, if there is none.
    fn reach(&mut self, path: &[u8]) -> &mut Self {
        let mut node = self;
        for name in path.split(|it| *it == b'.') {
            let found = node.children.iter().position(|(it, _)| it == name);
            let at = found.unwrap_or_else(|| {
                node.children.push((name.to_vec(), Self::default()));
                node.children.len() - 1
            });
            node = &mut node.children[at].1;
        }
        node
    }

    fn add_values(&mut self, array: (usize, usize), bit: Mask) {
        match self.values.iter_mut().find(|(it, _)| *it == array) {
            Some((_, branches)) => *branches |= bit,
            None => self.values.push((array, bit)),
        }
    }

    /// Lays this subtree out behind `nodes`; gives how many clauses each branch has in it.
    fn lay_out(
        mut self,
        parent: usize,
        patterns: &[&Pattern],
        nodes: &mut Vec<Node>,
    ) -> [usize; BRANCHES] {
        let at = nodes.len();
        let values = self.values.iter().fold(0, |mask, (_, bits)| mask | bits);
        let here = self.absent | values;
        nodes.push(Node {
            end: at,
            parent,
            children: Box::default(),
            here,
            absent: self.absent,
            values: Box::default(),
            within: here,
            positive: values,
            positive_below: 0,
            joint: false,
            deep: false,
        });
        self.children.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut clauses = std::array::from_fn(|bit| usize::from(here >> bit & 1 == 1));
        let mut children = Vec::new();
        for (name, child) in self.children {
            let node = nodes.len();
            let more = child.lay_out(at, patterns, nodes);
            for (sum, more) in clauses.iter_mut().zip(more) {
                *sum += more;
            }
            nodes[at].within |= nodes[node].within;
            nodes[at].positive |= nodes[node].positive;
            nodes[at].positive_below |= nodes[node].positive;
            nodes[at].deep |= !nodes[node].children.is_empty();
            children.push(Child {
                name: name.into(),
                node,
            });
        }
        let values = self.values.into_iter();
        let end = nodes.len();
        let node = &mut nodes[at];
        node.end = end;
        node.children = children.into();
        node.values = values
            .map(|((pattern, array), bits)| {
                let operators = &patterns[pattern].arrays[array].operators;
                (operators.as_slice().into(), bits)
            })
            .collect();
        node.joint = clauses.iter().any(|it| *it > 1);
        clauses
    }
}
