// The API overview, followed with any HTTP library. `send(method, path, headers, body)` gives {status, header, body}, where
// body is the parsed answer and header(name) one of its headers.

import assert from 'node:assert/strict'

const { CRYPTOPAY_KEY, CRYPTOPAY_USERNAME, CRYPTOPAY_PASSWORD } = process.env

export async function story(send) {
  const bearer = { Authorization: `Bearer ${CRYPTOPAY_KEY}` }
  const json = { ...bearer, 'Content-Type': 'application/json' }
  const get = (path) => send('GET', path, bearer)
  const write = (method, path, body) => send(method, path, json, JSON.stringify(body))

  const login = await send('POST', '/api/auth/login', { 'Content-Type': 'application/json' }, JSON.stringify({
    username: CRYPTOPAY_USERNAME,
    password: CRYPTOPAY_PASSWORD,
  }))
  succeeds(login, 200)
  assert.equal(login.body.access, login.body.data.access)
  succeeds(await send('GET', '/api/payment-orders/', { Authorization: `Bearer ${login.body.access}` }), 200)

  const created = await send('POST', '/api/payment-orders/', json, JSON.stringify({
    amount: '100.00',
    currency: 'USDC',
    blockchain: 'base',
    order_info: JSON.stringify({
      product: 'Premium Plan'
    }),
    nonce: Date.now() + Math.floor(Math.random() * 1000000)
  }))
  const order = succeeds(created, 201)
  assert.equal(order.order_info, '{"product":"Premium Plan"}')
  for (const name of ['X-RateLimit-Limit', 'X-RateLimit-Remaining', 'X-RateLimit-Reset']) {
    assert.match(created.header(name) ?? '', /^\d+$/, name)
  }
  assert.deepEqual(succeeds(await get(`/api/payment-orders/${order.id}/`), 200).order_id, order.order_id)

  const page = (await get('/api/payment-orders/?page=2&page_size=50')).body
  assert.ok(page.count >= 150)
  assert.equal(page.next, '/api/payment-orders/?page=3&page_size=50')
  assert.equal(page.previous, '/api/payment-orders/?page=1&page_size=50')
  assert.equal(page.results.length, 50)

  const [transaction] = (await get('/api/transactions/')).body.results
  succeeds(await get(`/api/transactions/${transaction.transaction_hash}/`), 200)

  const address = `0x${Array.from({ length: 40 }, () => Math.floor(Math.random() * 16).toString(16)).join('')}`
  const wallet = succeeds(await write('POST', '/api/merchant-wallets/', { blockchain: 'polygon', address }), 201)
  assert.ok((await get('/api/merchant-wallets/')).body.results.length > 0)
  succeeds(await write('PUT', `/api/merchant-wallets/${wallet.id}/`, { address, label: 'mine' }), 200)

  const url = 'https://shop.example/hook'
  const endpoint = succeeds(await write('POST', '/api/webhook-endpoints/', { url, events: ['payment.confirmed'] }), 201)
  assert.ok((await get('/api/webhook-endpoints/')).body.results.length > 0)
  succeeds(await write('PUT', `/api/webhook-endpoints/${endpoint.id}/`, { url, is_active: false }), 200)

  const refused = fails(await write('POST', '/api/payment-orders/', { amount: 'much' }), 400, 'VALIDATION_ERROR')
  assert.ok(Array.isArray(refused.details.currency))
  fails(await send('GET', '/api/payment-orders/', {}), 401, 'AUTHENTICATION_REQUIRED')
  fails(await get('/api/payment-orders/ORD-000000000000/'), 404, 'NOT_FOUND')
}

function succeeds(answer, status) {
  assert.equal(answer.status, status, JSON.stringify(answer.body))
  assert.equal(answer.body.success, true)
  assert.equal(typeof answer.body.message, 'string')
  assert.ok(!Number.isNaN(Date.parse(answer.body.timestamp)))
  return answer.body.data
}

function fails(answer, status, code) {
  assert.equal(answer.status, status, JSON.stringify(answer.body))
  assert.equal(answer.body.success, false)
  assert.equal(answer.body.error.code, code)
  return answer.body.error
}
