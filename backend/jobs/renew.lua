-- Says that a worker lives, and prolongs the leases that it still owns.
-- KEYS  1 the queue   2 the live workers (sorted set: worker id -> Unix ms until which it counts as alive)
-- ARGV  1 worker id   2 lease in ms   3 ms that an owner is remembered   then for each run: job id, owner
-- Returns {job id, holder} of each job that another claim holds. One of the same worker is prolonged all the same: its answer
-- is on the way, or was lost when the worker gave up waiting for it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZADD', KEYS[2], now + 2 * ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)

local held = {}
for i = 4, #ARGV, 2 do
  local key = 'arq:in-progress:' .. ARGV[i]
  local holder = redis.call('GET', key) or ''
  if string.sub(holder, 1, #ARGV[1]) == ARGV[1] then
    redis.call('PEXPIRE', key, ARGV[3])
    redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[i])
  end
  if holder ~= ARGV[i + 1] then
    held[#held + 1] = { ARGV[i], holder }
  end
end
return held
