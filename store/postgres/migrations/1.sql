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

-- All records. The four tables below are its parts.
CREATE TABLE @schema@.record (
	kind     text COLLATE "C" NOT NULL CHECK (kind <> ''),
	pool     text COLLATE "C" NOT NULL CHECK (pool <> ''),
	name     text COLLATE "C" NOT NULL,
	revision bigint NOT NULL,
	state    text NOT NULL DEFAULT '',
	prefixes cidr[] NOT NULL DEFAULT '{}',
	labels   jsonb, -- names and values; null if there are none
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

-- Who held what, until when: of kind history is one row for each tenure that has ended.
CREATE TABLE @schema@.history PARTITION OF @schema@.record FOR VALUES IN ('history');

-- Everything else.
CREATE TABLE @schema@.other PARTITION OF @schema@.record DEFAULT WITH (fillfactor = 70);

-- Large data is mostly packed bits: compressing it would cost time and save nothing.
ALTER TABLE @schema@.pool ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE @schema@.other ALTER COLUMN data SET STORAGE EXTERNAL;

-- Prefixes as boxes, whose index is several times as fast as that of prefixes: high_box is of the first 64 bits, low_box of the last. IPv4 is
-- beside IPv6, at x = -1. The 32-bit words of a prefix are at first one number each, then one range, then all numbers: so two prefixes
-- overlap just if their words do.
-- (They are in plpgsql because it prepares an expression once in a session, and an index one in SQL for each statement.)
CREATE FUNCTION @schema@.high_box(prefix cidr) RETURNS box LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $ipalloc$
BEGIN
	IF family(prefix) = 4 THEN
		RETURN box(point(-1, @schema@.word(prefix, 0)), point(-0.5, @schema@.word(broadcast(prefix), 0) + 0.5));
	END IF;
	RETURN box(point(@schema@.word(prefix, 0), @schema@.word(prefix, 1)), point(@schema@.word(broadcast(prefix), 0) + 0.5, @schema@.word(broadcast(prefix), 1) + 0.5));
END
$ipalloc$;

CREATE FUNCTION @schema@.low_box(prefix cidr) RETURNS box LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $ipalloc$
BEGIN
	IF family(prefix) = 4 THEN
		RETURN '(0,0),(0.5,0.5)';
	END IF;
	RETURN box(point(@schema@.word(prefix, 2), @schema@.word(prefix, 3)), point(@schema@.word(broadcast(prefix), 2) + 0.5, @schema@.word(broadcast(prefix), 3) + 0.5));
END
$ipalloc$;

CREATE FUNCTION @schema@.word(addr inet, number integer) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' || encode(substr(inet_send(addr), 5 + 4 * number, 4), 'hex'))::bit(32)::bigint;

-- Each prefix in table allocation, kept by triggers: write to allocation, not here.
CREATE TABLE @schema@.address (
	prefix cidr NOT NULL,
	pool   text COLLATE "C" NOT NULL,
	kind   text COLLATE "C" NOT NULL,
	name   text COLLATE "C" NOT NULL,
	PRIMARY KEY (pool, name, kind, prefix),
	-- No two rows of allocation, in one pool, have prefixes that overlap. Names are hashed because they may be too long for the index.
	CONSTRAINT address_overlap EXCLUDE USING gist (
		@schema@.high_box(prefix) WITH &&,
		@schema@.low_box(prefix) WITH &&,
		hashtextextended(pool, 0) WITH =,
		hashtextextended(name, CASE kind WHEN 'allocation' THEN 0 ELSE 1 END) WITH <>,
		prefix inet_ops WITH &&
	) DEFERRABLE INITIALLY DEFERRED
);

-- For those who ask for prefixes that contain an address, or are in another, in whatever pool.
CREATE INDEX address_prefix ON @schema@.address USING spgist (prefix);

-- Who holds each prefix, in one row a prefix.
CREATE VIEW @schema@.holding AS
	SELECT a.prefix, a.pool, a.kind, a.name AS owner, r.state, r.labels, r.created, r.expires, r.revision, r.data
	FROM @schema@.address a JOIN @schema@.allocation r USING (kind, pool, name);

-- Who held and holds each prefix, from when and until when, in one row for each owner and prefix. ended and how are null for what goes on.
-- The row of what several owners share lists them, each of whom has a row without prefixes.
CREATE VIEW @schema@.tenure AS
	SELECT r.pool, r.labels->>'ipalloc.owner' AS owner, p.prefix, r.created AS began, (r.data->>'to')::timestamptz AS ended, r.state AS how, r.labels
	FROM @schema@.history r CROSS JOIN unnest(r.prefixes) AS p (prefix)
	UNION ALL
	SELECT a.pool, a.name, a.prefix, COALESCE((r.data->>'since')::timestamptz, r.created), NULL, NULL, r.labels
	FROM @schema@.address a JOIN @schema@.allocation r USING (kind, pool, name) WHERE a.kind = 'allocation' AND r.state = 'allocated'
	UNION ALL
	SELECT a.pool, r.name, a.prefix, COALESCE((r.data->>'since')::timestamptz, r.created), NULL, NULL, r.labels
	FROM @schema@.address a JOIN @schema@.allocation s USING (kind, pool, name) CROSS JOIN json_array_elements_text(s.data->'sharers') AS o (owner)
	JOIN @schema@.allocation r ON r.kind = 'allocation' AND r.pool = a.pool AND r.name = o.owner
	WHERE a.kind = 'allocation' AND s.state = 'shared' AND a.name >= 'share "' AND a.name < 'share #';

CREATE FUNCTION @schema@.keep_address() RETURNS trigger LANGUAGE plpgsql
AS $ipalloc$
BEGIN
	IF TG_OP <> 'INSERT' THEN
		DELETE FROM @schema@.address a WHERE a.pool = OLD.pool AND a.name = OLD.name AND a.kind = OLD.kind;
	END IF;
	IF TG_OP = 'DELETE' THEN
		RETURN NULL;
	END IF;
	IF cardinality(NEW.prefixes) = 1 THEN
		INSERT INTO @schema@.address (prefix, pool, kind, name) VALUES (NEW.prefixes[1], NEW.pool, NEW.kind, NEW.name);
	ELSE
		INSERT INTO @schema@.address (prefix, pool, kind, name)
		SELECT DISTINCT p, NEW.pool, NEW.kind, NEW.name FROM unnest(NEW.prefixes) AS p;
	END IF;
	RETURN NULL;
END
$ipalloc$;

CREATE TRIGGER address_insert AFTER INSERT ON @schema@.allocation
	FOR EACH ROW WHEN (NEW.prefixes <> '{}') EXECUTE FUNCTION @schema@.keep_address();
CREATE TRIGGER address_update AFTER UPDATE ON @schema@.allocation
	FOR EACH ROW WHEN (OLD.prefixes <> NEW.prefixes OR OLD.pool <> NEW.pool OR OLD.kind <> NEW.kind OR OLD.name <> NEW.name)
	EXECUTE FUNCTION @schema@.keep_address();
CREATE TRIGGER address_delete AFTER DELETE ON @schema@.allocation
	FOR EACH ROW WHEN (OLD.prefixes <> '{}') EXECUTE FUNCTION @schema@.keep_address();

CREATE FUNCTION @schema@.truncate_kept() RETURNS trigger LANGUAGE plpgsql
AS $ipalloc$
BEGIN
	IF TG_TABLE_NAME = 'allocation' THEN
		TRUNCATE @schema@.address;
	END IF;
	DELETE FROM @schema@.label l WHERE l.kind = TG_TABLE_NAME;
	RETURN NULL;
END
$ipalloc$;

-- Each label of what is of kind allocation or history, kept by triggers: write to these tables, not here. What has no labels costs nothing
-- here.
CREATE TABLE @schema@.label (
	kind  text COLLATE "C" NOT NULL,
	pool  text COLLATE "C" NOT NULL,
	label text COLLATE "C" NOT NULL,
	value text COLLATE "C" NOT NULL,
	name  text COLLATE "C" NOT NULL
);

-- Kinds, pools, labels and values are hashed together because they may be too long for the index. Names sort as lists go on.
CREATE INDEX label_value ON @schema@.label
	(hashtextextended(value, hashtextextended(label, hashtextextended(pool, hashtextextended(kind, 0)))), name);

-- labelled are the records of a pool that have a label, from a name on, in the order of the names.
CREATE FUNCTION @schema@.labelled(
	pool text, label text, value text, from_name text DEFAULT '', most bigint DEFAULT NULL, kind text DEFAULT 'allocation'
) RETURNS SETOF @schema@.record LANGUAGE plpgsql STABLE
-- One plan for all calls, which goes along the index, also where many have the label and the server does not know it.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
AS $ipalloc$
#variable_conflict use_column
DECLARE
	found_name text;
BEGIN
	FOR found_name IN
		SELECT l.name FROM @schema@.label l
		WHERE hashtextextended(l.value, hashtextextended(l.label, hashtextextended(l.pool, hashtextextended(l.kind, 0))))
				= hashtextextended(labelled.value, hashtextextended(labelled.label, hashtextextended(labelled.pool, hashtextextended(labelled.kind, 0))))
			AND l.kind = labelled.kind AND l.pool = labelled.pool AND l.label = labelled.label AND l.value = labelled.value AND l.name >= labelled.from_name
		ORDER BY l.name LIMIT labelled.most
	LOOP
		RETURN QUERY SELECT r.* FROM @schema@.record r
			WHERE r.kind = labelled.kind AND r.pool = labelled.pool AND r.name = found_name;
	END LOOP;
END
$ipalloc$;

CREATE FUNCTION @schema@.keep_label() RETURNS trigger LANGUAGE plpgsql
AS $ipalloc$
BEGIN
	IF TG_OP <> 'INSERT' AND OLD.kind <> 'cooling' AND OLD.labels IS NOT NULL THEN
		DELETE FROM @schema@.label l USING jsonb_each_text(OLD.labels) AS e
			WHERE hashtextextended(l.value, hashtextextended(l.label, hashtextextended(l.pool, hashtextextended(l.kind, 0))))
					= hashtextextended(e.value, hashtextextended(e.key, hashtextextended(OLD.pool, hashtextextended(OLD.kind, 0))))
				AND l.kind = OLD.kind AND l.pool = OLD.pool AND l.label = e.key AND l.value = e.value AND l.name = OLD.name;
	END IF;
	IF TG_OP <> 'DELETE' AND NEW.kind <> 'cooling' AND NEW.labels IS NOT NULL THEN
		INSERT INTO @schema@.label (kind, pool, label, value, name)
			SELECT NEW.kind, NEW.pool, e.key, e.value, NEW.name FROM jsonb_each_text(NEW.labels) AS e;
	END IF;
	RETURN NULL;
END
$ipalloc$;

CREATE TRIGGER label_insert AFTER INSERT ON @schema@.allocation
	FOR EACH ROW WHEN (NEW.labels IS NOT NULL) EXECUTE FUNCTION @schema@.keep_label();
CREATE TRIGGER label_update AFTER UPDATE ON @schema@.allocation
	FOR EACH ROW WHEN (
		OLD.labels IS DISTINCT FROM NEW.labels
		OR NEW.labels IS NOT NULL AND (OLD.pool <> NEW.pool OR OLD.kind <> NEW.kind OR OLD.name <> NEW.name)
	)
	EXECUTE FUNCTION @schema@.keep_label();
CREATE TRIGGER label_delete AFTER DELETE ON @schema@.allocation
	FOR EACH ROW WHEN (OLD.labels IS NOT NULL) EXECUTE FUNCTION @schema@.keep_label();

CREATE TRIGGER history_label_insert AFTER INSERT ON @schema@.history
	FOR EACH ROW WHEN (NEW.labels IS NOT NULL) EXECUTE FUNCTION @schema@.keep_label();
CREATE TRIGGER history_label_update AFTER UPDATE ON @schema@.history
	FOR EACH ROW WHEN (
		OLD.labels IS DISTINCT FROM NEW.labels OR NEW.labels IS NOT NULL AND (OLD.pool <> NEW.pool OR OLD.name <> NEW.name)
	)
	EXECUTE FUNCTION @schema@.keep_label();
CREATE TRIGGER history_label_delete AFTER DELETE ON @schema@.history
	FOR EACH ROW WHEN (OLD.labels IS NOT NULL) EXECUTE FUNCTION @schema@.keep_label();

CREATE TRIGGER address_truncate AFTER TRUNCATE ON @schema@.allocation
	FOR EACH STATEMENT EXECUTE FUNCTION @schema@.truncate_kept();
CREATE TRIGGER history_truncate AFTER TRUNCATE ON @schema@.history
	FOR EACH STATEMENT EXECUTE FUNCTION @schema@.truncate_kept();

-- The locks and the channel by which commits wake who waits for a change. @committing@ and @listening@ are numbers of this schema's own.
--
-- NOTIFY makes all commits of the server that use it wait for one another, so a commit notifies only if someone listens. A listener
-- holds lock @listening@, shared; a commit that can take that lock alone, for a moment, knows that there is no listener. It holds lock @committing@,
-- shared, to its end; a new listener takes that lock alone once, and so knows that all commits have ended that did not see it.

-- listen begins to listen, for as long as the session lasts. After it, in a transaction of its own, comes await_commits.
CREATE FUNCTION @schema@.listen() RETURNS void LANGUAGE plpgsql
AS $ipalloc$
BEGIN
	LISTEN "ipalloc @listening@";
	PERFORM pg_advisory_lock_shared(@listening@);
END
$ipalloc$;

CREATE FUNCTION @schema@.await_commits() RETURNS void LANGUAGE plpgsql
AS $ipalloc$
BEGIN
	PERFORM pg_advisory_xact_lock(@committing@);
END
$ipalloc$;

-- apply is a commit. It is given rows, in arrays: first the heads, then the writes, each in the order of their keys, deletes before the others.
--   heads     how many of the rows are heads
--   ops       h: replace this head; x: delete this head; d: delete; c: create; p: put
--   expected  the revisions that the heads must have, 0 for none
--   changed   what listeners are told
--   lines     of the heads, if it has no turn, in which it waits behind those that have come before
-- It returns, with the position of the row that it is about:
--   done      for each head, and its new revision
--   conflict  for one head that is not at its revision: as it is, with revision 0 if it is not there; then nothing was changed
--   exists    for each record to be created that exists: as it is; then nothing was changed
CREATE FUNCTION @schema@.apply(
	heads integer, ops text[], expected bigint[], kinds text[], pools text[], names text[], states text[], prefixes text[], labels text[],
	created timestamptz[], expires timestamptz[], data text[], changed text, lines bigint[]
) RETURNS TABLE (
	outcome text, "position" integer, stored_revision bigint, stored_state text, stored_prefixes cidr[], stored_labels jsonb,
	stored_created timestamptz, stored_expires timestamptz, stored_data text
) LANGUAGE plpgsql ROWS 1
-- One plan for all calls, which uses the index although the tables may be small when it is made.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $ipalloc$
#variable_conflict use_variable
DECLARE
	new_revision bigint;
	found_revision bigint;
	written boolean;
	last integer := cardinality(ops);
	only_write boolean := last = heads + 1;
	careful boolean := heads > 1 OR expected[1] = 0 OR ops[1] = 'x';
BEGIN
	FOR i IN 1 .. cardinality(lines) LOOP
		PERFORM pg_advisory_xact_lock(lines[i]);
	END LOOP;

	-- A commit is durable when it returns, whatever the default is.
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;
	PERFORM pg_advisory_xact_lock_shared(@committing@);

	IF NOT only_write THEN
		careful := careful OR EXISTS (SELECT FROM @schema@.existing(ops, kinds, pools, names));
	ELSIF ops[last] = 'c' THEN
		PERFORM FROM @schema@.record r WHERE r.kind = kinds[last] AND r.pool = pools[last] AND r.name = names[last];
		careful := careful OR FOUND;
	END IF;

	-- What is not the usual case is looked at before anything is changed. Heads are locked in the same order in every commit.
	IF careful THEN
		FOR i IN 1 .. heads LOOP
			SELECT r.revision INTO found_revision FROM @schema@.record r
				WHERE r.kind = kinds[i] AND r.pool = pools[i] AND r.name = names[i] FOR UPDATE;
			IF coalesce(found_revision, 0) <> expected[i] THEN
				RETURN QUERY SELECT c.* FROM @schema@.conflict(i, kinds[i], pools[i], names[i]) c;
				RETURN;
			END IF;
		END LOOP;
		RETURN QUERY SELECT 'exists', e.* FROM @schema@.existing(ops, kinds, pools, names) e;
		IF FOUND THEN
			-- A head that was not there is not locked. If it has come meanwhile, that is what must be said: this is tried again.
			FOR i IN 1 .. heads LOOP
				IF expected[i] = 0 AND EXISTS (SELECT FROM @schema@.record r WHERE r.kind = kinds[i] AND r.pool = pools[i] AND r.name = names[i]) THEN
					RAISE serialization_failure USING MESSAGE = 'a head was created meanwhile';
				END IF;
			END LOOP;
			RETURN;
		END IF;
		-- A new head takes its place before its revision is drawn, which so is higher than any that its key had before. Another commit
		-- that was faster makes this fail, and it is tried again.
		FOR i IN 1 .. heads LOOP
			IF expected[i] = 0 THEN
				INSERT INTO @schema@.record (kind, pool, name, revision) VALUES (kinds[i], pools[i], names[i], 0);
			END IF;
		END LOOP;
	END IF;

	new_revision := nextval('@sequence@');
	FOR i IN 1 .. heads LOOP
		IF ops[i] = 'x' THEN
			DELETE FROM @schema@.record r WHERE r.kind = kinds[i] AND r.pool = pools[i] AND r.name = names[i];
		ELSE
			UPDATE @schema@.record r SET revision = new_revision, state = states[i], prefixes = apply.prefixes[i]::cidr[], labels = apply.labels[i]::jsonb,
				created = apply.created[i], expires = apply.expires[i], data = apply.data[i]::json
				WHERE r.kind = kinds[i] AND r.pool = pools[i] AND r.name = names[i] AND r.revision = expected[i];
			IF NOT FOUND THEN -- of the usual case, in which nothing has been changed yet
				RETURN QUERY SELECT c.* FROM @schema@.conflict(i, kinds[i], pools[i], names[i]) c;
				RETURN;
			END IF;
		END IF;
		outcome := 'done';
		position := i;
		stored_revision := new_revision;
		RETURN NEXT;
	END LOOP;

	IF only_write THEN
		written := @schema@.write(ops[last], new_revision, kinds[last], pools[last], names[last], states[last], prefixes[last]::cidr[], labels[last]::jsonb,
			created[last], expires[last], data[last]::json);
	ELSE
		PERFORM @schema@.write_all(new_revision, ops, kinds, pools, names, states, prefixes, labels, created, expires, data);
	END IF;

	IF NOT (pg_try_advisory_lock(@listening@) AND pg_advisory_unlock(@listening@)) THEN
		PERFORM pg_notify('ipalloc @listening@', changed);
	END IF;
END
$ipalloc$;

-- conflict is the row that apply returns of a head that is not at its revision.
CREATE FUNCTION @schema@.conflict(head integer, kind text, pool text, name text) RETURNS TABLE (
	outcome text, "position" integer, revision bigint, state text, prefixes cidr[], labels jsonb, created timestamptz, expires timestamptz, data text
) LANGUAGE sql VOLATILE
AS $ipalloc$
	SELECT 'conflict', conflict.head, coalesce(r.revision, 0), r.state, r.prefixes, r.labels, r.created, r.expires, r.data::text
	FROM (VALUES (0)) AS one LEFT JOIN @schema@.record r ON r.kind = conflict.kind AND r.pool = conflict.pool AND r.name = conflict.name
$ipalloc$;

-- existing are the rows that apply returns of records to be created that exist. Given nothing but creates, it reads many records.
CREATE FUNCTION @schema@.existing(ops text[], kinds text[], pools text[], names text[]) RETURNS TABLE (
	"position" integer, revision bigint, state text, prefixes cidr[], labels jsonb, created timestamptz, expires timestamptz, data text
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $ipalloc$
#variable_conflict use_column
BEGIN
	RETURN QUERY
		SELECT w.n::integer, r.revision, r.state, r.prefixes, r.labels, r.created, r.expires, r.data::text
		FROM unnest(ops, kinds, pools, names) WITH ORDINALITY AS w (op, kind, pool, name, n)
		JOIN @schema@.record r ON r.kind = w.kind AND r.pool = w.pool AND r.name = w.name
		WHERE w.op = 'c';
END
$ipalloc$;

-- write is the only write of a commit, which costs less than a set of one.
CREATE FUNCTION @schema@.write(
	op text, new_revision bigint, kind text, pool text, name text, state text, prefixes cidr[], labels jsonb, created timestamptz, expires timestamptz, data json
) RETURNS boolean LANGUAGE plpgsql
AS $ipalloc$
#variable_conflict use_variable
BEGIN
	IF op = 'd' THEN
		DELETE FROM @schema@.record r WHERE r.kind = kind AND r.pool = pool AND r.name = name;
	ELSIF op = 'c' THEN
		INSERT INTO @schema@.record VALUES (kind, pool, name, new_revision, state, prefixes, labels, created, expires, data);
	ELSE
		INSERT INTO @schema@.record AS r VALUES (kind, pool, name, new_revision, state, prefixes, labels, created, expires, data)
			ON CONFLICT ON CONSTRAINT record_pkey DO UPDATE
			SET revision = excluded.revision, state = excluded.state, prefixes = excluded.prefixes, labels = excluded.labels,
				created = excluded.created, expires = excluded.expires, data = excluded.data
			WHERE r.revision < excluded.revision;
		IF NOT FOUND THEN
			RAISE serialization_failure USING MESSAGE = 'a record was written meanwhile by a later commit';
		END IF;
	END IF;
	RETURN true;
END
$ipalloc$;

-- write_all are the writes of a commit: the rows of apply, of which it leaves out the heads.
CREATE FUNCTION @schema@.write_all(
	new_revision bigint, ops text[], kinds text[], pools text[], names text[], states text[], prefixes text[], labels text[],
	created timestamptz[], expires timestamptz[], data text[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $ipalloc$
#variable_conflict use_column
DECLARE
	puts integer := cardinality(array_positions(ops, 'p'));
	written integer;
BEGIN
	DELETE FROM @schema@.record r USING unnest(ops, kinds, pools, names) AS w (op, kind, pool, name)
		WHERE w.op = 'd' AND r.kind = w.kind AND r.pool = w.pool AND r.name = w.name;
	INSERT INTO @schema@.record
		SELECT w.kind, w.pool, w.name, new_revision, w.state, w.prefixes::cidr[], w.labels::jsonb, w.created, w.expires, w.data::json
		FROM unnest(ops, kinds, pools, names, states, prefixes, labels, created, expires, data)
			AS w (op, kind, pool, name, state, prefixes, labels, created, expires, data)
		WHERE w.op = 'c';
	IF puts = 0 THEN
		RETURN;
	END IF;
	INSERT INTO @schema@.record AS r
		SELECT w.kind, w.pool, w.name, new_revision, w.state, w.prefixes::cidr[], w.labels::jsonb, w.created, w.expires, w.data::json
		FROM unnest(ops, kinds, pools, names, states, prefixes, labels, created, expires, data)
			AS w (op, kind, pool, name, state, prefixes, labels, created, expires, data)
		WHERE w.op = 'p'
		ON CONFLICT ON CONSTRAINT record_pkey DO UPDATE
		SET revision = excluded.revision, state = excluded.state, prefixes = excluded.prefixes, labels = excluded.labels,
			created = excluded.created, expires = excluded.expires, data = excluded.data
		WHERE r.revision < excluded.revision;
	GET DIAGNOSTICS written = ROW_COUNT;
	IF written < puts THEN
		RAISE serialization_failure USING MESSAGE = 'a record was written meanwhile by a later commit';
	END IF;
END
$ipalloc$;

-- What those that wait for their turns ask for, and the answers. Nothing rests on a row when its caller has gone, so the table need not
-- survive a crash, and asking waits for no flush of the log. A caller keeps its row for its next ask, which replaces this one on the same page:
-- so the table stays small, and its index as it is. Rows are swept when they were not used for a while.
CREATE UNLOGGED TABLE @schema@.ask (
	line     bigint NOT NULL, -- in which it waits: the number of an advisory lock
	slot     bigint NOT NULL, -- a random number of the caller's
	serial   bigint NOT NULL, -- rises with each ask in the slot
	kind     text COLLATE "C" NOT NULL DEFAULT '', -- this and the next two are the key of the head
	pool     text COLLATE "C" NOT NULL DEFAULT '',
	name     text COLLATE "C" NOT NULL DEFAULT '',
	ask      bytea, -- null if it waits no more
	answer   bytea,
	revision bigint, -- of the commit that answered
	at       timestamptz NOT NULL DEFAULT clock_timestamp(), -- when it was asked, or answered
	pid      integer NOT NULL DEFAULT pg_backend_pid(), -- of the server process that waits
	PRIMARY KEY (line, slot)
) WITH (fillfactor = 50);

-- join_line waits for a turn in a line, in a transaction. Of one that asks for nothing, the slot is 0. It returns a row
--   answer  bytes is the answer of the commit with the revision; the turn is over
--   lost    the ask is not there any more; the turn is over
-- or else the turn, as lead does.
CREATE FUNCTION @schema@.join_line(
	own_line bigint, own_slot bigint, own_serial bigint, head_kind text, head_pool text, head_name text, longest integer, is_sweeping boolean
) RETURNS TABLE (
	what text, bytes bytea, found_slot bigint, found_serial bigint, found_revision bigint, found_state text, found_prefixes cidr[], found_labels jsonb,
	found_created timestamptz, found_expires timestamptz, found_data text
) LANGUAGE plpgsql ROWS 1
AS $ipalloc$
#variable_conflict use_column
DECLARE
	waits boolean;
	came timestamptz := clock_timestamp();
BEGIN
	-- What was answered gives the lock back at once, by the end of this block: the next one in the line waits for it.
	BEGIN
		PERFORM pg_advisory_xact_lock(own_line);
		IF own_slot <> 0 THEN
			SELECT a.ask IS NOT NULL, a.answer, a.revision, a.at INTO waits, bytes, found_revision, came
				FROM @schema@.ask a WHERE a.line = own_line AND a.slot = own_slot AND a.serial = own_serial;
			IF waits IS NOT TRUE THEN
				RAISE no_data_found;
			END IF;
		END IF;
	EXCEPTION WHEN no_data_found THEN
		what := CASE WHEN bytes IS NULL THEN 'lost' ELSE 'answer' END;
		RETURN NEXT;
		RETURN;
	END;
	PERFORM set_config('idle_in_transaction_session_timeout', longest::text, true);
	RETURN QUERY SELECT l.* FROM @schema@.lead(own_line, came, head_kind, head_pool, head_name) l;
	IF is_sweeping THEN
		PERFORM @schema@.sweep();
	END IF;
END
$ipalloc$;

-- lead returns what there is at the beginning of a turn:
--   head  the record, if there is one, locked
--   ask   for each of those who have come since: their slot and serial, and in bytes what they ask for. Callers that died have no server
--         process any more when their place in the line has come; up to then, what they ask for is done before what is asked for later.
CREATE FUNCTION @schema@.lead(own_line bigint, came timestamptz, head_kind text, head_pool text, head_name text) RETURNS TABLE (
	what text, bytes bytea, found_slot bigint, found_serial bigint, found_revision bigint, found_state text, found_prefixes cidr[], found_labels jsonb,
	found_created timestamptz, found_expires timestamptz, found_data text
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $ipalloc$
#variable_conflict use_column
BEGIN
	RETURN QUERY
		SELECT 'head', NULL::bytea, 0::bigint, 0::bigint, r.revision, r.state, r.prefixes, r.labels, r.created, r.expires, r.data::text
		FROM @schema@.record r WHERE r.kind = head_kind AND r.pool = head_pool AND r.name = head_name FOR UPDATE;
	RETURN QUERY
		SELECT 'ask', w.ask, w.slot, w.serial, 0::bigint, NULL::text, NULL::cidr[], NULL::jsonb, NULL::timestamptz, NULL::timestamptz, NULL::text
		FROM (
			SELECT a.*, sum(length(a.ask)) OVER (ORDER BY a.at, a.slot) AS total FROM @schema@.ask a
			WHERE a.line = own_line AND a.ask IS NOT NULL AND a.at > greatest(came, clock_timestamp() - interval '5 seconds')
				AND a.kind = head_kind AND a.pool = head_pool AND a.name = head_name
				AND EXISTS (SELECT FROM pg_stat_get_activity(a.pid))
			ORDER BY a.at, a.slot LIMIT 64
		) w WHERE w.total <= 1048576 ORDER BY w.at, w.slot;
END
$ipalloc$;

-- sweep removes rows of callers that have gone, but for those that others are about to change.
CREATE FUNCTION @schema@.sweep() RETURNS void LANGUAGE plpgsql
AS $ipalloc$
BEGIN
	DELETE FROM @schema@.ask a WHERE a.ctid = ANY (ARRAY(
		SELECT o.ctid FROM @schema@.ask o WHERE o.at < clock_timestamp() - interval '1 minute' LIMIT 1000 FOR UPDATE SKIP LOCKED
	));
END
$ipalloc$;

-- apply_turn is apply with answers, which are given with the commit or not at all. One that is null takes the ask back, which is the caller's.
CREATE FUNCTION @schema@.apply_turn(
	heads integer, ops text[], expected bigint[], kinds text[], pools text[], names text[], states text[], prefixes text[], labels text[],
	created timestamptz[], expires timestamptz[], data text[], changed text,
	own_line bigint, slots bigint[], serials bigint[], answers bytea[]
) RETURNS TABLE (
	outcome text, "position" integer, stored_revision bigint, stored_state text, stored_prefixes cidr[], stored_labels jsonb,
	stored_created timestamptz, stored_expires timestamptz, stored_data text
) LANGUAGE plpgsql ROWS 1
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $ipalloc$
#variable_conflict use_column
DECLARE
	given integer;
BEGIN
	FOR outcome, position, stored_revision, stored_state, stored_prefixes, stored_labels, stored_created, stored_expires, stored_data IN
		SELECT * FROM @schema@.apply(heads, ops, expected, kinds, pools, names, states, prefixes, labels, created, expires, data, changed, '{}')
	LOOP
		RETURN NEXT;
	END LOOP;
	IF outcome IS DISTINCT FROM 'done' THEN
		RETURN;
	END IF;
	UPDATE @schema@.ask a
		SET ask = NULL, answer = w.answer, revision = CASE WHEN w.answer IS NOT NULL THEN stored_revision END, at = clock_timestamp()
		FROM unnest(slots, serials, answers) AS w (slot, serial, answer)
		WHERE a.line = own_line AND a.slot = w.slot AND a.serial = w.serial AND a.ask IS NOT NULL;
	GET DIAGNOSTICS given = ROW_COUNT;
	IF given <> cardinality(slots) THEN
		RAISE EXCEPTION USING ERRCODE = 'IPA01', MESSAGE = 'one that was to be answered has left';
	END IF;
END
$ipalloc$;

-- withdraw takes an ask back. It returns
--   answer  if it was answered, with the answer and the revision
--   none    if it was not, and will not be, also if it comes later
--   lost    if nothing is known of it
CREATE FUNCTION @schema@.withdraw(own_line bigint, own_slot bigint, own_serial bigint) RETURNS TABLE (what text, bytes bytea, found_revision bigint)
LANGUAGE plpgsql ROWS 1
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $ipalloc$
#variable_conflict use_column
DECLARE
	found_serial bigint;
BEGIN
	-- A commit that is about to answer has locked it.
	SELECT a.serial, a.answer, a.revision INTO found_serial, bytes, found_revision
		FROM @schema@.ask a WHERE a.line = own_line AND a.slot = own_slot FOR UPDATE;
	what := 'none';
	IF found_serial = own_serial THEN
		UPDATE @schema@.ask a SET ask = NULL WHERE a.line = own_line AND a.slot = own_slot;
		IF bytes IS NOT NULL THEN
			what := 'answer';
		END IF;
	ELSIF found_serial < own_serial THEN
		-- It has not come yet. If it does, it finds this, which therefore is kept for long.
		UPDATE @schema@.ask a SET ask = NULL, answer = NULL, serial = own_serial, at = clock_timestamp() + interval '1 hour'
			WHERE a.line = own_line AND a.slot = own_slot;
		bytes := NULL;
	ELSE
		what := 'lost';
	END IF;
	RETURN NEXT;
END
$ipalloc$;

INSERT INTO @schema@.migration (version) VALUES (1);
