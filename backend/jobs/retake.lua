-- Writes down again who has which job, for a worker whose Valkey has forgotten it. Whoever has claimed meanwhile keeps the job.
-- KEYS  1 the queue
-- ARGV  1 lease in ms   2 ms that an owner is remembered   3 ms that a job outlives its due time
--       then for each run: job id, owner, payload, tries
-- Returns {job id, holder} of each job that another claim holds.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local held = {}
for i = 4, #ARGV, 4 do
  local id, owner = ARGV[i], ARGV[i + 1]
  local key = 'arq:in-progress:' .. id
  local holder = redis.call('GET', key) or owner
  if holder ~= owner then
    held[#held + 1] = { id, holder }
  else
    redis.call('SET', key, owner, 'PX', ARGV[2])
    redis.call('SET', 'arq:job:' .. id, ARGV[i + 2], 'PX', ARGV[1] + ARGV[3])
    redis.call('SET', 'arq:retry:' .. id, ARGV[i + 3], 'EX', 88400)
    redis.call('ZADD', KEYS[1], now + ARGV[1], id)
  end
end
return held
