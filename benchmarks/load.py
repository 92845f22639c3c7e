"""A plugin of asv: each result is saved with the number of cores that other programs used while it was measured.

The file of results gets a key "load", from the name of the benchmark to that number. asv.conf.json names this plugin;
asv ignores what it does not know.
"""

import json
from pathlib import Path


def setup():
    """Extend the results of asv, which imports this file and calls this function."""
    from asv import util
    from asv.results import Results

    from fastmlp.bench.load import Others

    add_result, save, others = Results.add_result, Results.save, Others()

    def add_result_with_load(self, benchmark, *args, **kwargs):
        self.__dict__.setdefault("_load", {})[benchmark["name"]] = others.cores()
        return add_result(self, benchmark, *args, **kwargs)

    def save_with_load(self, result_dir):
        path = Path(result_dir) / self._filename
        before = json.loads(path.read_text(encoding="utf-8")).get("load", {}) if path.exists() else {}
        save(self, result_dir)
        content = json.loads(path.read_text(encoding="utf-8"))
        content["load"] = before | self.__dict__.get("_load", {})
        util.write_json(str(path), content, compact=True)

    Results.add_result, Results.save = add_result_with_load, save_with_load
