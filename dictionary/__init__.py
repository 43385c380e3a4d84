"""Words of the house, each once: what columns are called, measured in and mean (columns.yaml), beside what the contracts say of theirs."""
