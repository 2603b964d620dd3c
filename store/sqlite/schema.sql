-- All records. prefixes is a JSON array of texts, in the order in which they were requested. labels is a JSON object,
-- of names and values. created and expires are in
-- UTC, always with six digits behind the second, so that they sort. revision is that of the commit that last wrote the
-- record.
CREATE TABLE record (
	kind TEXT NOT NULL,
	pool TEXT NOT NULL,
	name TEXT NOT NULL,
	revision INTEGER NOT NULL,
	state TEXT NOT NULL DEFAULT '',
	prefixes TEXT NOT NULL DEFAULT '[]',
	labels TEXT NOT NULL DEFAULT '{}',
	created TEXT,
	expires TEXT,
	data TEXT,
	PRIMARY KEY (kind, pool, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX record_expires ON record (kind, pool, expires, name) WHERE expires IS NOT NULL;

-- One row for each prefix of the records of the kinds allocation and cooling. first and last are the first and the last
-- address of the prefix, with all their digits, so that they sort: 010.000.000.007, or
-- 2001:0db8:0000:0000:0000:0000:0000:0001.
CREATE TABLE address (
	kind TEXT NOT NULL,
	pool TEXT NOT NULL,
	family INTEGER NOT NULL,
	first TEXT NOT NULL,
	bits INTEGER NOT NULL,
	name TEXT NOT NULL,
	last TEXT NOT NULL,
	prefix TEXT NOT NULL,
	PRIMARY KEY (kind, pool, family, first, bits, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX address_owner ON address (kind, name);

-- One row for each label of the records of the kinds allocation and history.
CREATE TABLE label (
	kind TEXT NOT NULL,
	pool TEXT NOT NULL,
	label TEXT NOT NULL,
	value TEXT NOT NULL,
	name TEXT NOT NULL,
	PRIMARY KEY (kind, pool, label, value, name)
) STRICT, WITHOUT ROWID;

-- What is held, and by whom; also what was released and cools down.
CREATE VIEW holding AS
	SELECT a.pool, a.name AS owner, a.prefix, r.state, r.labels, r.created, r.expires, a.family, a.first, a.last
	FROM address a JOIN record r ON r.kind = a.kind AND r.pool = a.pool AND r.name = a.name
	WHERE a.kind = 'allocation';

-- Who held and holds what, from when and until when. ended and how are null for what goes on. What an owner shares stands
-- in its data.
CREATE VIEW tenure AS
	SELECT pool, labels->>'$."ipalloc.owner"' AS owner, prefixes, created AS began, data->>'$.to' AS ended, state AS how, labels
	FROM record WHERE kind = 'history'
	UNION ALL
	SELECT pool, name, coalesce(data->'$.prefixes', prefixes), coalesce(data->>'$.since', created), NULL, NULL, labels
	FROM record WHERE kind = 'allocation' AND state = 'allocated';

-- The revision of the latest commit.
CREATE TABLE latest (
	revision INTEGER NOT NULL
) STRICT;

INSERT INTO latest VALUES (0);

-- What the planner of queries takes the tables to hold. Without it, it takes kind to tell more than it does.
ANALYZE;

INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
	('record', 'record', '100000 50000 5000 1'),
	('record', 'record_expires', '50000 25000 2500 1 1'),
	('address', 'address', '100000 50000 5000 2500 1 1 1'),
	('address', 'address_owner', '100000 50000 2 1 1 1 1'),
	('label', 'label', '100000 50000 50000 10000 10 1');
