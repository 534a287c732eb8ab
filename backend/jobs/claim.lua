-- Claims what is due. The score is a visibility timeout: a job whose worker is silent falls due again by itself.
-- KEYS  1 the queue   2 the wake list
-- ARGV  1 free slots   2 lease in ms   3 ms that an owner is remembered   4 owner   5 horizon: ms after which workers look anyway
-- Returns ms until the next job falls due (-1: none), then {id, payload or false, tries, due time} of each claimed job.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local slots = tonumber(ARGV[1])

local due = {}
if slots > 0 then
  due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, slots)
end
local reply = { -1 }
for i = 1, #due, 2 do
  local id = due[i]
  local payload = redis.call('GET', 'arq:job:' .. id)
  local tries = 0
  if payload then
    redis.call('SET', 'arq:in-progress:' .. id, ARGV[4], 'PX', ARGV[3])
    redis.call('ZADD', KEYS[1], now + ARGV[2], id)
    tries = redis.call('INCR', 'arq:retry:' .. id)
    redis.call('EXPIRE', 'arq:retry:' .. id, 88400)
  else
    redis.call('ZREM', KEYS[1], id)
    redis.call('DEL', 'arq:in-progress:' .. id, 'arq:retry:' .. id)
  end
  reply[#reply + 1] = { id, payload, tries, due[i + 1] }
end

local head = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if head[2] then
  reply[1] = math.max(0, head[2] - now)
end
-- Whoever took all that it asked for leaves the rest to another worker; anybody else has taken everything and sets its timer.
if #due == 2 * slots and head[2] and head[2] - now <= tonumber(ARGV[5]) then
  if redis.call('LLEN', KEYS[2]) == 0 then redis.call('RPUSH', KEYS[2], '1') end
else
  redis.call('DEL', KEYS[2])
end
return reply
