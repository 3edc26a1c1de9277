"""The documents of a YAML text on standard input, as one JSON array."""

import json
import sys

import yaml


class Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, which YAML itself does."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


json.dump(list(yaml.load_all(sys.stdin, Loader)), sys.stdout)
