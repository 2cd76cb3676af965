-- Texts that repeat: names, models, hosts. Columns that hold an id of one are said to be of a text.
CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;

-- What spans come from: an encoded Resource and InstrumentationScope.
CREATE TABLE sources (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    resource BLOB NOT NULL,
    scope BLOB NOT NULL,
    host INTEGER
) STRICT;

-- Dictionaries that stored bytes are compressed with.
CREATE TABLE dictionaries (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;

CREATE TABLE agents (
    id INTEGER PRIMARY KEY,
    agent_id TEXT NOT NULL UNIQUE,
    version TEXT,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    clock_offset INTEGER,
    boot_time INTEGER,
    source INTEGER
) STRICT;

-- A life of an agent's log, and how far it is stored.
CREATE TABLE epochs (
    id INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL,
    epoch BLOB NOT NULL,
    high_water INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    UNIQUE (agent, epoch)
) STRICT;

CREATE TABLE gaps (
    id INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- Items that were not stored, by why. Agent 0: what came without one.
CREATE TABLE rejections (
    agent INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (agent, reason)
) STRICT, WITHOUT ROWID;

-- What queries filter by and add up. A span's ids are random: with the hour of its start before them, new ones are
-- written to few pages, however many there are of older ones.
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    hour INTEGER NOT NULL,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    parent_id BLOB,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    status INTEGER NOT NULL,
    name INTEGER,
    agent INTEGER,
    source INTEGER,
    host INTEGER,
    operation INTEGER,
    api INTEGER,
    provider INTEGER,
    model INTEGER,
    response_model INTEGER,
    executable INTEGER,
    pid INTEGER,
    user INTEGER,
    server_address INTEGER,
    error_type INTEGER,
    http_status INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_tokens INTEGER,
    cache_write_tokens INTEGER,
    reasoning_tokens INTEGER,
    cost_usd REAL,
    energy_joules REAL,
    ttft REAL,
    tpot REAL,
    chunks INTEGER,
    gap_max REAL,
    slow INTEGER NOT NULL,
    cause INTEGER,
    causes INTEGER NOT NULL,
    conversation TEXT
) STRICT;
CREATE UNIQUE INDEX calls_by_ids ON calls (hour, trace_id, span_id);
CREATE INDEX calls_by_start ON calls (start_ns);
CREATE INDEX calls_by_conversation ON calls (hour, conversation) WHERE conversation IS NOT NULL;

-- The whole span but for its content. codec: 0 as it is, else the dictionary.
CREATE TABLE spans (id INTEGER PRIMARY KEY, codec INTEGER NOT NULL, body BLOB NOT NULL) STRICT;

-- Prompts and completions, apart: who reads metadata never touches them.
CREATE TABLE contents (id INTEGER PRIMARY KEY, codec INTEGER NOT NULL, body BLOB NOT NULL) STRICT;

-- Kinds of causes, each a bit of calls.causes.
CREATE TABLE causes (bit INTEGER PRIMARY KEY, kind TEXT NOT NULL UNIQUE) STRICT;

-- Sets of labels that calls are added up by. 0 is unknown, 1 any other; of users -1 and -2.
CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    model INTEGER NOT NULL,
    provider INTEGER NOT NULL,
    host INTEGER NOT NULL,
    executable INTEGER NOT NULL,
    user INTEGER NOT NULL,
    status INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    UNIQUE (model, provider, host, executable, user, status, kind)
) STRICT;

-- Totals by minute. The id is the minute since 1970 times 2^24 plus the group's id.
CREATE TABLE rollup_minutes (
    id INTEGER PRIMARY KEY,
    calls INTEGER NOT NULL,
    slow INTEGER NOT NULL,
    input_calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_calls INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_calls INTEGER NOT NULL,
    cache_tokens INTEGER NOT NULL,
    cost_calls INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    energy_calls INTEGER NOT NULL,
    energy_joules REAL NOT NULL,
    ttft BLOB,
    tpot BLOB,
    duration BLOB
) STRICT;

-- The same by hour: what is older.
CREATE TABLE rollup_hours (
    id INTEGER PRIMARY KEY,
    calls INTEGER NOT NULL,
    slow INTEGER NOT NULL,
    input_calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_calls INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_calls INTEGER NOT NULL,
    cache_tokens INTEGER NOT NULL,
    cost_calls INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    energy_calls INTEGER NOT NULL,
    energy_joules REAL NOT NULL,
    ttft BLOB,
    tpot BLOB,
    duration BLOB
) STRICT;

-- Latest totals of each life of each agent's program.
CREATE TABLE ledgers (
    agent INTEGER NOT NULL,
    started INTEGER NOT NULL,
    name INTEGER NOT NULL,
    value INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (agent, started, name)
) STRICT, WITHOUT ROWID;

-- Gauges of GPUs: one row a series, with its latest value.
CREATE TABLE gauges (
    id INTEGER PRIMARY KEY,
    host INTEGER NOT NULL,
    gpu TEXT NOT NULL,
    metric INTEGER NOT NULL,
    labels TEXT NOT NULL,
    value REAL NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (host, gpu, metric, labels)
) STRICT;

CREATE TABLE gauge_minutes (
    minute INTEGER NOT NULL,
    gauge INTEGER NOT NULL,
    count INTEGER NOT NULL,
    sum REAL NOT NULL,
    max REAL NOT NULL,
    PRIMARY KEY (minute, gauge)
) STRICT, WITHOUT ROWID;

-- Metrics as they came, for a short time.
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL,
    source INTEGER,
    at INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL,
    source INTEGER,
    at INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- What retention took away.
CREATE TABLE removed (
    what TEXT NOT NULL,
    reason TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (what, reason)
) STRICT, WITHOUT ROWID;
