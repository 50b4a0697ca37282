//! Where the named functions are, and what to say when they are not.

use leakwatch_inspect::function::Function;

use super::{FileNames, Named, NamedFunction, Requirement, VersionRule};
use crate::images::{MOST_MATCHES, Module, Modules, SymbolFile, Wanted};

/// The files of a process that are searched.
pub(super) struct Search<'a> {
    modules: &'a Modules,
    /// Those that could be read.
    pub(super) files: Vec<Searched<'a>>,
    /// What to say of those that could not.
    pub(super) unreadable: Vec<String>,
}

/// One file, read.
pub(super) struct Searched<'a> {
    pub(super) module: &'a Module,
    pub(super) file: SymbolFile,
}

/// A function, and the file that it is in: its number among the searched ones, and itself.
pub(super) struct Found<'s, 'a> {
    pub(super) number: usize,
    pub(super) file: &'s Searched<'a>,
    pub(super) function: Function,
}

impl<'a> Search<'a> {
    /// Reads the modules that any of the functions may be in.
    pub(super) fn of(modules: &'a Modules, named: &Named) -> Self {
        let mut search = Self { modules, files: Vec::new(), unreadable: Vec::new() };
        let functions = named.functions.iter().map(|function| function.library.as_ref());
        let version = named.version.iter().map(|rule| rule.library.as_ref());
        let required = named.requires.iter().map(|required| required.library.as_ref());
        let wanted: Vec<Option<&FileNames>> = functions.chain(version).chain(required).collect();
        for module in modules.all() {
            let name = module.file_name();
            if !wanted.iter().any(|names| names.is_none_or(|names| names.matches(&name))) {
                continue;
            }
            match SymbolFile::of_module(module, modules.dir()) {
                Ok(file) => search.files.push(Searched { module, file }),
                Err(error) => {
                    search.unreadable.push(format!("{} was not searched: {error}", module.path().display()));
                }
            }
        }
        search
    }

    fn chosen(&self, names: Option<&FileNames>) -> impl Iterator<Item = (usize, &Searched<'a>)> {
        let all = self.files.iter().enumerate();
        all.filter(move |(_, file)| names.is_none_or(|names| names.matches(&file.module.file_name())))
    }

    /// Whether what a requirement names is there.
    pub(super) fn meets(&self, required: &Requirement) -> bool {
        let mut files = self.chosen(required.library.as_ref());
        files.any(|(_, searched)| {
            searched.file.find(&required.wanted).is_ok_and(|functions| !functions.is_empty())
        })
    }

    /// What the rule finds first.
    pub(super) fn version(&self, rule: &VersionRule) -> Option<String> {
        self.chosen(rule.library.as_ref()).find_map(|(_, searched)| {
            let path = searched.module.path().to_string_lossy();
            let by_path = rule.path.as_ref().and_then(|pattern| pattern.captures(&path));
            let by_path = by_path.and_then(|caught| Some(caught.get(1)?.as_str().to_owned()));
            by_path.or_else(|| searched.file.text(rule.text.as_ref()?))
        })
    }

    /// Where a function is: files, and functions in them.
    ///
    /// # Errors
    /// When there is none, with what was searched and what was probably meant; or when there are too many.
    pub(super) fn find(
        &self,
        function: &NamedFunction,
        problems: &mut Vec<String>,
    ) -> Result<Vec<Found<'_, 'a>>, String> {
        let NamedFunction { origin, written, .. } = function;
        let mut found = Vec::new();
        let mut in_files: Vec<String> = Vec::new();
        for (number, file) in self.chosen(function.library.as_ref()) {
            let here = file.file.find(&function.wanted).map_err(|why| format!("{origin}: {why}"))?;
            if !here.is_empty() {
                in_files.push(file.module.path().display().to_string());
            }
            found.extend(here.into_iter().map(|function| Found { number, file, function }));
        }
        if found.len() > MOST_MATCHES {
            return Err(format!(
                "{origin}: {written} means more than {MOST_MATCHES} functions; make the pattern narrower"
            ));
        }
        if in_files.len() > 1 && matches!(function.wanted, Wanted::Name(_)) {
            problems.push(format!(
                "{written} is defined in {}: all of them are probed; say library=NAME where one is meant",
                in_files.join(" and ")
            ));
        }
        if found.is_empty() && !function.optional {
            return Err(self.not_found(function));
        }
        Ok(found)
    }

    fn not_found(&self, function: &NamedFunction) -> String {
        /// Files that are listed in a message.
        const LISTED: usize = 12;
        let NamedFunction { origin, written, library, .. } = function;
        let searched: Vec<String> = self
            .chosen(library.as_ref())
            .map(|(_, searched)| {
                let functions = match (searched.file.functions(), searched.file.is_stripped()) {
                    (0, _) => "no symbols".to_owned(),
                    (count, true) => format!("stripped: {count} exported functions"),
                    (count, false) => format!("{count} functions"),
                };
                format!("{} ({functions})", searched.module.path().display())
            })
            .collect();
        if searched.is_empty() {
            let names: Vec<String> = self.modules.all().iter().map(Module::file_name).take(LISTED).collect();
            let library = library.as_ref().map_or_else(String::new, |library| library.0.clone());
            return format!(
                "{origin}: no library of the process is called {library}: it has {} (a library that is loaded later is \
                 looked for when leakwatch attaches)",
                names.join(", ")
            );
        }
        let shown = searched.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
        let list = match searched.len().saturating_sub(LISTED) {
            0 => shown,
            more => format!("{shown} and {more} more"),
        };
        let nearest = match &function.wanted {
            Wanted::Name(name) => self.nearest(name, library.as_ref()),
            Wanted::Pattern(_) | Wanted::Address(_) => Vec::new(),
        };
        let what = match function.wanted {
            Wanted::Pattern(_) => "no function's name matches",
            _ => "there is no function",
        };
        let hint = if nearest.is_empty() {
            "nothing there has a name like it".to_owned()
        } else {
            format!("the nearest names are {}", nearest.join(", "))
        };
        format!("{origin}: {what} {written} in {list}; {hint}")
    }

    fn nearest(&self, name: &str, library: Option<&FileNames>) -> Vec<String> {
        let mut near: Vec<(f64, String)> =
            self.chosen(library).flat_map(|(_, searched)| searched.file.nearest(name)).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        near.dedup_by(|a, b| a.1 == b.1);
        near.into_iter().take(3).map(|(_, name)| name).collect()
    }
}
