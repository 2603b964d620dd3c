-- Version 1 of the tables in which ipalloc keeps its pools. @schema@ stands for the name of their schema, quoted.

-- Lets one index hold numbers beside addresses. Any role that may create in the database may install it.
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE SCHEMA IF NOT EXISTS @schema@;

CREATE TABLE @schema@.migration (
	version integer PRIMARY KEY,
	applied timestamptz NOT NULL DEFAULT now()
);

-- Where revisions come from. It must never go back.
CREATE SEQUENCE @schema@.revision AS bigint;

-- All records. The three tables below are its parts.
CREATE TABLE @schema@.record (
	kind     text COLLATE "C" NOT NULL CHECK (kind <> ''),
	pool     text COLLATE "C" NOT NULL CHECK (pool <> ''),
	name     text COLLATE "C" NOT NULL,
	revision bigint NOT NULL,
	state    text NOT NULL DEFAULT '',
	prefixes cidr[] NOT NULL DEFAULT '{}',
	created  timestamptz,
	expires  timestamptz,
	data     json,
	PRIMARY KEY (kind, pool, name)
) PARTITION BY LIST (kind);

CREATE INDEX record_expires ON @schema@.record (kind, pool, expires, name) WHERE expires IS NOT NULL;

-- The pools: name is empty, and data has the specification, the counts and the free space. Each commit replaces a row here, so pages
-- keep room for that.
CREATE TABLE @schema@.pool PARTITION OF @schema@.record FOR VALUES IN ('pool') WITH (fillfactor = 40);

-- Who holds what: name is the owner. Of kind cooling is what nobody may have yet; its name is the first prefix.
CREATE TABLE @schema@.allocation PARTITION OF @schema@.record FOR VALUES IN ('allocation', 'cooling');

-- Everything else.
CREATE TABLE @schema@.other PARTITION OF @schema@.record DEFAULT WITH (fillfactor = 70);

-- Large data is mostly packed bits: compressing it would cost time and save nothing.
ALTER TABLE @schema@.pool ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE @schema@.other ALTER COLUMN data SET STORAGE EXTERNAL;

-- Each prefix in table allocation, kept by triggers: write to allocation, not here.
CREATE TABLE @schema@.address (
	prefix cidr NOT NULL,
	pool   text COLLATE "C" NOT NULL,
	kind   text COLLATE "C" NOT NULL,
	name   text COLLATE "C" NOT NULL,
	PRIMARY KEY (pool, name, kind, prefix),
	-- No two rows of allocation, in one pool, have prefixes that overlap. Names are hashed because they may be too long for the index.
	CONSTRAINT address_overlap EXCLUDE USING gist (
		prefix inet_ops WITH &&,
		hashtextextended(pool, 0) WITH =,
		hashtextextended(name, CASE kind WHEN 'allocation' THEN 0 ELSE 1 END) WITH <>
	) DEFERRABLE INITIALLY DEFERRED
);

-- Who holds each prefix, in one row a prefix.
CREATE VIEW @schema@.holding AS
	SELECT a.prefix, a.pool, a.kind, a.name AS owner, r.state, r.created, r.expires, r.revision, r.data
	FROM @schema@.address a JOIN @schema@.allocation r USING (kind, pool, name);

CREATE FUNCTION @schema@.keep_address() RETURNS trigger LANGUAGE plpgsql
SET search_path = @schema@, pg_temp
SET enable_seqscan = off
AS $ipalloc$
BEGIN
	IF TG_OP <> 'INSERT' THEN
		DELETE FROM address a WHERE a.pool = OLD.pool AND a.name = OLD.name AND a.kind = OLD.kind;
	END IF;
	IF TG_OP <> 'DELETE' THEN
		INSERT INTO address (prefix, pool, kind, name)
		SELECT DISTINCT p, NEW.pool, NEW.kind, NEW.name FROM unnest(NEW.prefixes) AS p;
	END IF;
	RETURN NULL;
END
$ipalloc$;

CREATE TRIGGER address_insert AFTER INSERT ON @schema@.allocation
	FOR EACH ROW WHEN (NEW.prefixes <> '{}') EXECUTE FUNCTION @schema@.keep_address();
CREATE TRIGGER address_update AFTER UPDATE ON @schema@.allocation
	FOR EACH ROW WHEN ((OLD.prefixes, OLD.pool, OLD.kind, OLD.name) IS DISTINCT FROM (NEW.prefixes, NEW.pool, NEW.kind, NEW.name))
	EXECUTE FUNCTION @schema@.keep_address();
CREATE TRIGGER address_delete AFTER DELETE ON @schema@.allocation
	FOR EACH ROW WHEN (OLD.prefixes <> '{}') EXECUTE FUNCTION @schema@.keep_address();

CREATE FUNCTION @schema@.truncate_address() RETURNS trigger LANGUAGE plpgsql
SET search_path = @schema@, pg_temp
AS $ipalloc$
BEGIN
	TRUNCATE address;
	RETURN NULL;
END
$ipalloc$;

CREATE TRIGGER address_truncate AFTER TRUNCATE ON @schema@.allocation
	FOR EACH STATEMENT EXECUTE FUNCTION @schema@.truncate_address();

-- The locks and the channel by which commits wake who waits for a change.
--
-- NOTIFY makes all commits of the server that use it wait for one another, so a commit notifies only if someone listens. A listener
-- holds lock listening, shared; a commit that can take that lock alone, for a moment, knows that there is no listener. It holds lock committing,
-- shared, to its end; a new listener takes that lock alone once, and so knows that all commits have ended that did not see it.
-- They are those of the current schema, which whoever calls these functions sets.
CREATE FUNCTION @schema@.signal_key(what text) RETURNS bigint LANGUAGE sql STABLE
RETURN hashtextextended('ipalloc ' || what || ' ' || current_schema(), 0);

CREATE FUNCTION @schema@.signal_channel() RETURNS text LANGUAGE sql STABLE
RETURN 'ipalloc_' || to_hex(hashtextextended(current_schema(), 0));

-- listen begins to listen, for as long as the session lasts. After it, in a transaction of its own, comes await_commits.
CREATE FUNCTION @schema@.listen() RETURNS void LANGUAGE plpgsql
SET search_path = @schema@, pg_temp
AS $ipalloc$
BEGIN
	EXECUTE format('LISTEN %I', signal_channel());
	PERFORM pg_advisory_lock_shared(signal_key('listening'));
END
$ipalloc$;

CREATE FUNCTION @schema@.await_commits() RETURNS void LANGUAGE sql
SET search_path = @schema@, pg_temp
AS $ipalloc$
	SELECT pg_advisory_xact_lock(signal_key('committing'))
$ipalloc$;

-- apply is a commit. It is given a row, in arrays, for each head and for each write:
--   ops       h: replace this head; x: delete this head; c: create; p: put; d: delete
--   expected  for heads, the revision that it must have, 0 for none
--   changed   what listeners are told
-- It returns, with the position of what it is about:
--   done      for each head, and its new revision
--   conflict  for one head that is not at its revision: as it is, with revision 0 if it is not there; then nothing was changed
--   exists    for each record to be created that exists: as it is; then nothing was changed
CREATE FUNCTION @schema@.apply(
	ops text[], expected bigint[], kinds text[], pools text[], names text[], states text[], prefixes text[],
	created timestamptz[], expires timestamptz[], data text[], changed text
) RETURNS TABLE (
	outcome text, "position" bigint, stored_revision bigint, stored_state text, stored_prefixes cidr[],
	stored_created timestamptz, stored_expires timestamptz, stored_data text
) LANGUAGE plpgsql
SET search_path = @schema@, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $ipalloc$
#variable_conflict use_column
DECLARE
	head record;
	stored record;
	new_revision bigint;
	written bigint;
BEGIN
	-- A commit is durable when it returns, whatever the default is.
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;
	PERFORM pg_advisory_xact_lock_shared(signal_key('committing'));

	-- Lock the heads, in the same order in every commit.
	FOR head IN
		SELECT w.n, w.op, w.expected, w.kind, w.pool, w.name
		FROM unnest(apply.ops, apply.expected, apply.kinds, apply.pools, apply.names) WITH ORDINALITY AS w (op, expected, kind, pool, name, n)
		WHERE w.op IN ('h', 'x')
		ORDER BY w.kind COLLATE "C", w.pool COLLATE "C", w.name COLLATE "C"
	LOOP
		SELECT * INTO stored FROM record r WHERE r.kind = head.kind AND r.pool = head.pool AND r.name = head.name FOR UPDATE;
		IF FOUND AND stored.revision = head.expected OR NOT FOUND AND head.expected = 0 THEN
			CONTINUE;
		END IF;
		RETURN QUERY SELECT 'conflict', head.n, coalesce(stored.revision, 0), coalesce(stored.state, ''), coalesce(stored.prefixes, '{}'),
			stored.created, stored.expires, stored.data::text;
		RETURN;
	END LOOP;

	IF 'c' = ANY (ops) THEN
		RETURN QUERY
			SELECT 'exists', w.n, r.revision, r.state, r.prefixes, r.created, r.expires, r.data::text
			FROM unnest(apply.ops, apply.kinds, apply.pools, apply.names) WITH ORDINALITY AS w (op, kind, pool, name, n)
			JOIN record r ON r.kind = w.kind AND r.pool = w.pool AND r.name = w.name
			WHERE w.op = 'c';
		IF FOUND THEN
			RETURN;
		END IF;
	END IF;

	-- A new head takes its place before its revision is drawn, which so is higher than any that its key had before. Another commit that
	-- was faster makes this fail, and it is tried again.
	IF 0 = ANY (expected) THEN
		INSERT INTO record (kind, pool, name, revision)
			SELECT w.kind, w.pool, w.name, 0
			FROM unnest(apply.ops, apply.expected, apply.kinds, apply.pools, apply.names) AS w (op, expected, kind, pool, name)
			WHERE w.op IN ('h', 'x') AND w.expected = 0
			ORDER BY w.kind COLLATE "C", w.pool COLLATE "C", w.name COLLATE "C";
	END IF;
	new_revision := nextval('revision');

	IF ops && '{d,x}' THEN
		DELETE FROM record r
			USING unnest(apply.ops, apply.kinds, apply.pools, apply.names) AS w (op, kind, pool, name)
			WHERE w.op IN ('d', 'x') AND r.kind = w.kind AND r.pool = w.pool AND r.name = w.name;
	END IF;
	UPDATE record r
		SET revision = new_revision, state = w.state, prefixes = w.prefixes::cidr[], created = w.created, expires = w.expires, data = w.data::json
		FROM unnest(apply.ops, apply.kinds, apply.pools, apply.names, apply.states, apply.prefixes, apply.created, apply.expires, apply.data)
			AS w (op, kind, pool, name, state, prefixes, created, expires, data)
		WHERE w.op = 'h' AND r.kind = w.kind AND r.pool = w.pool AND r.name = w.name;
	IF 'c' = ANY (ops) THEN
		INSERT INTO record (kind, pool, name, revision, state, prefixes, created, expires, data)
			SELECT w.kind, w.pool, w.name, new_revision, w.state, w.prefixes::cidr[], w.created, w.expires, w.data::json
			FROM unnest(apply.ops, apply.kinds, apply.pools, apply.names, apply.states, apply.prefixes, apply.created, apply.expires, apply.data)
				AS w (op, kind, pool, name, state, prefixes, created, expires, data)
			WHERE w.op = 'c'
			ORDER BY w.kind COLLATE "C", w.pool COLLATE "C", w.name COLLATE "C";
	END IF;
	IF 'p' = ANY (ops) THEN
		INSERT INTO record AS r (kind, pool, name, revision, state, prefixes, created, expires, data)
			SELECT w.kind, w.pool, w.name, new_revision, w.state, w.prefixes::cidr[], w.created, w.expires, w.data::json
			FROM unnest(apply.ops, apply.kinds, apply.pools, apply.names, apply.states, apply.prefixes, apply.created, apply.expires, apply.data)
				AS w (op, kind, pool, name, state, prefixes, created, expires, data)
			WHERE w.op = 'p'
			ORDER BY w.kind COLLATE "C", w.pool COLLATE "C", w.name COLLATE "C"
			ON CONFLICT (kind, pool, name) DO UPDATE
			SET revision = excluded.revision, state = excluded.state, prefixes = excluded.prefixes,
				created = excluded.created, expires = excluded.expires, data = excluded.data
			WHERE r.revision < excluded.revision;
		GET DIAGNOSTICS written = ROW_COUNT;
		IF written <> cardinality(array_positions(ops, 'p')) THEN
			RAISE serialization_failure USING MESSAGE = 'a record was written meanwhile by a later commit';
		END IF;
	END IF;

	IF NOT (pg_try_advisory_lock(signal_key('listening')) AND pg_advisory_unlock(signal_key('listening'))) THEN
		PERFORM pg_notify(signal_channel(), changed);
	END IF;
	RETURN QUERY
		SELECT 'done', w.n, new_revision, NULL::text, NULL::cidr[], NULL::timestamptz, NULL::timestamptz, NULL::text
		FROM unnest(apply.ops) WITH ORDINALITY AS w (op, n)
		WHERE w.op IN ('h', 'x');
END
$ipalloc$;

INSERT INTO @schema@.migration (version) VALUES (1);
