//! What a dump comes down to: clusters of tasks that do the same, what they wait on, what each costs.

use rustc_hash::FxHashMap;

use super::dump::{RuntimeDump, Task, WaitObject};
use crate::detect::groups::{self, Stacked};

/// A runtime's tasks in few words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Digest {
    /// Tasks that do the same, the largest clusters first.
    pub clusters: Vec<TaskCluster>,
    /// Objects that several tasks wait on, those with most waiters first.
    pub contended: Vec<Contended>,
    /// Where tasks come from, by the memory that they hold.
    pub sites: Vec<SiteCost>,
}

/// Tasks that do the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskCluster {
    /// Index of the stack that most of them have; `None`: their stacks were not readable.
    pub stack: Option<u32>,
    /// How many tasks.
    pub count: u64,
    /// Of all tasks, 0 to 1.
    pub share: f64,
    /// Different stacks that are the same after normalisation.
    pub variants: usize,
    /// Different stacks that are only near.
    pub near: usize,
    /// States with their tasks, the most frequent first.
    pub states: Vec<(u32, u64)>,
    /// The site that most of them come from.
    pub site: u32,
    /// Memory that they hold; `None`: not known.
    pub bytes: Option<u64>,
    /// Longest known time in this state, ns.
    pub longest_ns: Option<u64>,
}

/// An object that several tasks wait on.
#[derive(Clone, Debug, PartialEq)]
pub struct Contended {
    /// Which.
    pub object: WaitObject,
    /// States of those that wait, with their tasks, the most frequent first.
    pub states: Vec<(u32, u64)>,
    /// Sites that they come from, with their tasks, the most frequent first.
    pub sites: Vec<(u32, u64)>,
}

/// What the tasks of a site cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteCost {
    /// Which.
    pub site: u32,
    /// How many tasks.
    pub count: u64,
    /// Memory that they hold; `None`: not known.
    pub bytes: Option<u64>,
}

/// Most objects of a digest.
const CONTENDED: usize = 100;

/// Figures of the tasks with one stack.
#[derive(Clone, Debug, Default)]
struct Sum {
    count: u64,
    bytes: Option<u64>,
    longest_ns: Option<u64>,
    states: FxHashMap<u32, u64>,
    sites: FxHashMap<u32, u64>,
}

impl Sum {
    fn add(&mut self, task: &Task) {
        self.bytes = if self.count == 0 { task.bytes } else { plus(self.bytes, task.bytes) };
        self.count += 1;
        self.longest_ns = self.longest_ns.max(task.waited_ns);
        *self.states.entry(task.state).or_default() += 1;
        *self.sites.entry(task.site).or_default() += 1;
    }

    fn join(&mut self, other: &Self) {
        self.bytes = if self.count == 0 { other.bytes } else { plus(self.bytes, other.bytes) };
        self.count += other.count;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        for (into, from) in [(&mut self.states, &other.states), (&mut self.sites, &other.sites)] {
            for (&key, &count) in from.iter().collect::<std::collections::BTreeMap<_, _>>() {
                *into.entry(key).or_default() += count;
            }
        }
    }
}

impl RuntimeDump {
    /// Puts it in few words.
    pub fn digest(&self) -> Digest {
        Digest { clusters: self.clusters(), contended: self.contended(), sites: self.site_costs() }
    }

    fn clusters(&self) -> Vec<TaskCluster> {
        let mut sums: FxHashMap<(Option<u32>, u32), Sum> = FxHashMap::default();
        for task in &self.tasks {
            let stack = task.stack_index();
            // Without a stack, what they run is all that is known.
            let site = if stack.is_some() { 0 } else { task.site };
            sums.entry((stack, site)).or_default().add(task);
        }
        let mut sums: Vec<((Option<u32>, u32), Sum)> = sums.into_iter().collect();
        sums.sort_by(|a, b| b.1.count.cmp(&a.1.count).then(a.0.cmp(&b.0)));
        let stacks: Vec<Stacked> = sums
            .iter()
            .map(|((stack, site), sum)| Stacked {
                functions: match stack {
                    Some(stack) => self.functions(*stack),
                    None => vec![
                        "running".to_owned(),
                        self.sites.get(*site as usize).and_then(|s| s.task.clone()).unwrap_or_default(),
                    ],
                },
                count: sum.count,
            })
            .collect();
        let total = self.tasks.len();
        groups::cluster(&stacks)
            .into_iter()
            .map(|cluster| {
                let mut all = Sum::default();
                for (_, sum) in cluster.members.iter().filter_map(|&member| sums.get(member)) {
                    all.join(sum);
                }
                let stack =
                    cluster.members.first().and_then(|&first| sums.get(first)).and_then(|((s, _), _)| *s);
                TaskCluster {
                    stack,
                    count: all.count,
                    share: share(all.count, total),
                    variants: cluster.members.len() - cluster.near,
                    near: cluster.near,
                    states: ranked(&all.states),
                    site: ranked(&all.sites).first().map_or(0, |&(site, _)| site),
                    bytes: all.bytes,
                    longest_ns: all.longest_ns,
                }
            })
            .collect()
    }

    /// Functions that a traceback shows of a stack.
    fn functions(&self, stack: u32) -> Vec<String> {
        let lines = self.stacks.get(stack as usize).map_or(&[][..], |stack| &stack.lines);
        lines
            .iter()
            .filter(|line| line.shown)
            .filter_map(|line| self.frame(line))
            .map(|frame| frame.function.clone())
            .collect()
    }

    fn contended(&self) -> Vec<Contended> {
        let kept = self.objects.iter().take(CONTENDED).take_while(|object| object.waiters() > 1).count();
        let mut sums = vec![Sum::default(); kept];
        for task in &self.tasks {
            for wait in self.waits_of(task) {
                if let Some(sum) = sums.get_mut(wait.object as usize) {
                    sum.add(task);
                }
            }
        }
        let contended = |(object, sum): (&WaitObject, Sum)| Contended {
            object: *object,
            states: ranked(&sum.states),
            sites: ranked(&sum.sites),
        };
        self.objects.iter().zip(sums).map(contended).collect()
    }

    fn site_costs(&self) -> Vec<SiteCost> {
        let mut sums = vec![Sum::default(); self.sites.len()];
        for task in &self.tasks {
            if let Some(sum) = sums.get_mut(task.site as usize) {
                sum.add(task);
            }
        }
        let mut costs: Vec<SiteCost> = (0..)
            .zip(sums)
            .filter(|(_, sum)| sum.count > 0)
            .map(|(site, sum)| SiteCost { site, count: sum.count, bytes: sum.bytes })
            .collect();
        costs.sort_by_key(|cost| (std::cmp::Reverse((cost.bytes, cost.count)), cost.site));
        costs
    }
}

fn plus(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.zip(b).map(|(a, b)| a.saturating_add(b))
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(count: u64, of: usize) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

fn ranked(counts: &FxHashMap<u32, u64>) -> Vec<(u32, u64)> {
    let mut ranked: Vec<(u32, u64)> = counts.iter().map(|(&key, &count)| (key, count)).collect();
    ranked.sort_by_key(|&(key, count)| (std::cmp::Reverse(count), key));
    ranked
}
