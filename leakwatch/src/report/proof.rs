//! A proof with names, grouped by where goroutines wait and what made them, and in words why nothing can wake them.

use leakwatch_common::RuntimeKind;
use rustc_hash::{FxHashMap, FxHashSet};

use super::dump::{Dump, Frame, Origin, RuntimeDump, Task};
use crate::detect::proof::reason;
use crate::observe::{Awaited, Fate, Link, Why};
pub use crate::{
    detect::proof::describe,
    observe::{Proof, ProvenObject, ProvenTask, WaitKind},
};

/// A proof of one process.
#[derive(Clone, Debug)]
pub struct ProofReport {
    /// The process, and its proven goroutines with their stacks; the state of each ends with `(leaked)`.
    pub dump: Dump,
    /// How it was proven.
    pub proof: Proof,
    /// Proven goroutines that wait at the same place and come from the same site, the largest group first.
    pub groups: Vec<Group>,
    /// Of goroutines that were asked for: why they are proven, or are not.
    pub whys: Vec<Explanation>,
}

/// Why a goroutine is proven or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Its number.
    pub id: u64,
    /// What the proof says of it, a sentence.
    pub fate: &'static str,
    /// How something alive leads to it, a sentence each: from its wait to what is alive by itself.
    pub chain: Vec<String>,
}

impl Explanation {
    /// Puts it into words. `place` knows what is mapped at an address.
    pub fn of(why: &Why, place: &dyn Fn(u64) -> Option<String>) -> Self {
        let fate = match why.fate {
            Fate::Gone => "there is no such goroutine",
            Fate::Proven => "it is proven: nothing alive can wake it",
            Fate::Doubtful => {
                "nothing alive reaches what it waits on, but the proof has doubts and names nobody"
            }
            Fate::Alive => {
                "it does not wait, or for something that is never proven (network, timer, runtime)"
            }
            Fate::Unknown => "it waits, and on what could not be made out",
            Fate::Moved => "it ran or was woken while it was looked at",
            Fate::Reached => "it is not proven, as something alive leads to what it waits on",
        };
        Self { id: why.id, fate, chain: why.chain.iter().map(|link| sentence(link, place)).collect() }
    }
}

fn sentence(link: &Link, place: &dyn Fn(u64) -> Option<String>) -> String {
    let which = |goroutine: u64, waits: bool| match (goroutine, waits) {
        (0, _) => "the scheduler of a thread".to_owned(),
        (id, true) => format!("goroutine {id}, which waits itself and can be woken"),
        (id, false) => format!("goroutine {id}, which is alive"),
    };
    match *link {
        Link::Awaits { goroutine, address } => format!("goroutine {goroutine} waits on {address:#x}"),
        Link::Object { base, size } => format!("that is in the object {base:#x} of {size} bytes"),
        Link::Variable { address } => {
            let place = place(address).map_or_else(String::new, |place| format!(" of {place}"));
            format!("{address:#x} is no object of the heap but a variable{place}")
        }
        Link::Word { at } => format!("which the word at {at:#x} names"),
        Link::Stack { at, goroutine, depth, waits } => format!(
            "which the word at {at:#x} names, {depth} bytes up the stack of {}",
            which(goroutine, waits)
        ),
        Link::Struct { at, goroutine, waits } => {
            format!("which the word at {at:#x} names, in the struct of {}", which(goroutine, waits))
        }
        Link::Outside { at } => {
            let place = place(at).unwrap_or_else(|| "memory without a name".to_owned());
            format!("which the word at {at:#x} names, outside of the heap in {place}")
        }
        Link::Special => "which has a finalizer, a cleanup or a weak pointer, or is pinned".to_owned(),
        Link::New => "which came to be while it was looked at".to_owned(),
        Link::Lost => "what leads there was not noted".to_owned(),
    }
}

/// Proven goroutines with one stack, one state and one site.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What they wait for, in the runtime's words.
    pub state: String,
    /// Where they come from.
    pub origin: Option<Origin>,
    /// Frames, innermost first, as the runtime's tracebacks show them.
    pub stack: Vec<Frame>,
    /// Their numbers.
    pub ids: Vec<u64>,
    /// The longest wait that the runtime noted, ns.
    pub longest_ns: Option<u64>,
    /// Bytes of their stacks.
    pub bytes: u64,
    /// What they wait on, places in [`Proof::objects`].
    pub objects: Vec<u32>,
    /// Why nothing can wake them, one sentence.
    pub why: String,
}

impl ProofReport {
    /// Puts a proof and a dump of the same process together. The runtime's own goroutines are left out.
    pub fn of(mut dump: Dump, mut proof: Proof) -> Self {
        let proven: FxHashMap<u64, &ProvenTask> = proof.proven.iter().map(|task| (task.id, task)).collect();
        let dumped: FxHashSet<u64> =
            dump.runtimes.iter().flat_map(|runtime| &runtime.tasks).map(|task| task.id).collect();
        let left_out = proven.keys().filter(|id| !dumped.contains(id)).count();
        for runtime in &mut dump.runtimes {
            runtime.tasks.retain(|task| !task.system && proven.contains_key(&task.id));
        }
        let mut groups = Vec::new();
        for runtime in &dump.runtimes {
            let mut indices = FxHashMap::default();
            for task in &runtime.tasks {
                let Some(proven) = proven.get(&task.id) else { continue };
                let index =
                    *indices.entry((task.site, task.state, task.stack_index())).or_insert_with(|| {
                        groups.push(Group::new(runtime, task));
                        groups.len() - 1
                    });
                if let Some(group) = groups.get_mut(index) {
                    group.add(task, proven);
                }
            }
        }
        if left_out > 0 {
            proof.problems.push(format!(
                "{left_out} of the goroutines that were not reached are left out: they have ended since, or could not be read"
            ));
        }
        let named: FxHashSet<u64> =
            dump.runtimes.iter().flat_map(|runtime| &runtime.tasks).map(|task| task.id).collect();
        proof.proven.retain(|task| named.contains(&task.id));
        dump.mark_leaked(&named);
        for group in &mut groups {
            group.objects.sort_unstable();
            group.objects.dedup();
            group.why = why(group, &proof.objects);
        }
        groups.sort_by(|a, b| b.ids.len().cmp(&a.ids.len()).then_with(|| a.ids.cmp(&b.ids)));
        Self { dump, proof, groups, whys: Vec::new() }
    }
}

impl Dump {
    /// Has the states of these goroutines, by number, end with `(leaked)`, as the runtime itself prints those that it found
    /// (`goroutineheader`, runtime/traceback.go of Go 1.26 and later). The answer: how many there are.
    pub fn mark_leaked(&mut self, ids: &FxHashSet<u64>) -> usize {
        let mut marked = 0;
        for runtime in self.runtimes.iter_mut().filter(|runtime| runtime.kind == RuntimeKind::Go.name()) {
            let mut states: FxHashMap<u32, u32> = FxHashMap::default();
            let leaks = |task: &&mut Task| ids.contains(&task.id) && !task.system;
            for task in runtime.tasks.iter_mut().filter(leaks) {
                marked += 1;
                // Where the runtime found it as well, it is said once.
                task.marks.leaked = false;
                let names = &mut runtime.states;
                let state = states.entry(task.state).or_insert_with(|| {
                    let name = names.get(task.state as usize).map_or("waiting", String::as_str);
                    names.push(format!("{name} (leaked)"));
                    u32::try_from(names.len() - 1).unwrap_or(u32::MAX)
                });
                task.state = *state;
            }
        }
        marked
    }
}

impl Group {
    fn new(runtime: &RuntimeDump, task: &Task) -> Self {
        let stack = runtime.stack_of(task).map_or_else(Vec::new, |stack| {
            let shown = stack.lines.iter().filter(|line| line.shown);
            shown.filter_map(|line| runtime.frame(line).cloned()).collect()
        });
        Self {
            state: runtime.state_of(task).to_owned(),
            origin: runtime.origin_of(task).cloned(),
            stack,
            ids: Vec::new(),
            longest_ns: None,
            bytes: 0,
            objects: Vec::new(),
            why: String::new(),
        }
    }

    fn add(&mut self, task: &Task, proven: &ProvenTask) {
        self.ids.push(task.id);
        self.longest_ns = self.longest_ns.max(task.waited_ns);
        self.bytes = self.bytes.saturating_add(task.bytes.unwrap_or(0));
        self.objects.extend(&proven.objects);
    }
}

/// What an object is, for people.
pub fn kind(object: &ProvenObject) -> &'static str {
    object.kind.noun()
}

/// Why nothing can wake a group.
fn why(group: &Group, all: &[ProvenObject]) -> String {
    let objects = group.objects.iter().filter_map(|&at| all.get(at as usize));
    let awaited = Awaited::of(objects);
    if awaited.first.is_none() {
        return format!("nothing can ever end a wait of this kind ({})", group.state);
    }
    reason(&awaited)
}
