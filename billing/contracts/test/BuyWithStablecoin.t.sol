// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {Intercoin} from "../src/Intercoin.sol";
import {Settlement} from "../src/Settlement.sol";
import {TokenSale} from "../src/TokenSale.sol";
import {Market} from "./Market.sol";
import {FeeDollar, OddCoin} from "./Tricksters.sol";

contract BuyWithStablecoinTest is Market {
    function setUp() public override {
        super.setUp();
        open(TEN_CENTS);
    }

    function test_TheBuyerGetsNtcAndTheTreasuryDollars() public {
        fund(BUYER, 100 * DOLLAR);
        vm.expectEmit(true, true, true, true, address(sale));
        emit TokenSale.Bought(BUYER, 0, 1, 0, 1000 * NTC, 100 * DOLLAR, 0);
        vm.prank(BUYER);
        sale.buyWithStablecoin(1000 * NTC, 100 * DOLLAR, 0);
        vm.assertEq(ntc.balanceOf(BUYER), 1000 * NTC);
        vm.assertEq(dollar.balanceOf(TREASURY), 100 * DOLLAR);
        vm.assertEq(dollar.balanceOf(address(sale)), 0);
        vm.assertEq(sale.round(1).sold, 1000 * NTC);
    }

    function test_ForAnAccountOfThePortalItIsDeposited() public {
        fund(BUYER, 100 * DOLLAR);
        vm.expectEmit(true, true, false, true, address(settlement));
        emit Settlement.Deposited(ACCOUNT, address(sale), 1000 * NTC);
        vm.prank(BUYER);
        sale.buyWithStablecoin(1000 * NTC, 100 * DOLLAR, ACCOUNT);
        vm.assertEq(settlement.deposited(ACCOUNT), 1000 * NTC);
        vm.assertEq(ntc.balanceOf(BUYER), 0);
        vm.assertEq(ntc.allowance(address(sale), address(settlement)), 0);
    }

    function testFuzz_ThePriceIsRoundedUpAndNeverBelowTheExactOne(uint64 price, uint256 amount, uint8 decimals) public {
        price = uint64(within(price, 1, 10 ** 15));
        amount = within(amount, 1, 10_000_000 * NTC);
        OddCoin coin = new OddCoin(uint8(within(decimals, 0, 18)));
        (TokenSale other, Intercoin token) = _saleFor(coin);
        vm.prank(SALES);
        other.openRound(price);
        uint256 cost = other.quoteStablecoin(amount);
        // cost / 10^decimals dollars against amount × price / 10^18 dollars
        uint256 unit = 10 ** coin.decimals();
        vm.assertGe(cost * 10 ** 18, amount * price * unit);
        vm.assertTrue((cost - 1) * 10 ** 18 < amount * price * unit);
        coin.mint(BUYER, cost);
        vm.startPrank(BUYER);
        coin.approve(address(other), cost);
        other.buyWithStablecoin(amount, cost, 0);
        vm.stopPrank();
        vm.assertEq(coin.balanceOf(TREASURY), cost);
        vm.assertEq(token.balanceOf(BUYER), amount);
    }

    function test_MoreThanTheBuyerAllowedIsRefused() public {
        fund(BUYER, 100 * DOLLAR);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleTooDear.selector, 100 * DOLLAR, 100 * DOLLAR - 1));
        vm.prank(BUYER);
        sale.buyWithStablecoin(1000 * NTC, 100 * DOLLAR - 1, 0);
    }

    function test_NothingIsRefused() public {
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNothingBought.selector));
        vm.prank(BUYER);
        sale.buyWithStablecoin(0, 0, 0);
    }

    function test_MoreThanIsLeftIsRefused() public {
        buy(9_999_999 * NTC);
        fund(BUYER, 10 ** 12);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleSoldOut.selector, NTC + 1, NTC));
        vm.prank(BUYER);
        sale.buyWithStablecoin(NTC + 1, 10 ** 12, 0);
        vm.prank(BUYER);
        sale.buyWithStablecoin(NTC, 10 ** 12, 0);
        vm.assertEq(sale.left(), 0);
    }

    function test_WithoutAnOpenRoundNothingIsSold() public {
        close();
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleNoOpenRound.selector));
        vm.prank(BUYER);
        sale.buyWithStablecoin(NTC, DOLLAR, 0);
    }

    function test_ATokenThatTakesAFeeIsRefused() public {
        FeeDollar fee = new FeeDollar();
        (TokenSale other,) = _saleFor(fee);
        vm.prank(SALES);
        other.openRound(TEN_CENTS);
        fee.mint(BUYER, 200 * DOLLAR);
        vm.startPrank(BUYER);
        fee.approve(address(other), 200 * DOLLAR);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleShortPayment.selector, 99 * DOLLAR, 100 * DOLLAR));
        other.buyWithStablecoin(1000 * NTC, 200 * DOLLAR, 0);
        vm.stopPrank();
    }

    function test_TheTreasuryCannotBuyFromItself() public {
        fund(TREASURY, DOLLAR);
        refuses(abi.encodeWithSelector(TokenSale.TokenSaleShortPayment.selector, 0, DOLLAR));
        vm.prank(TREASURY);
        sale.buyWithStablecoin(10 * NTC, DOLLAR, 0);
    }

    function test_WhilePausedNothingIsSold() public {
        vm.prank(GUARDIAN);
        sale.pause();
        (uint8 v, bytes32 r, bytes32 s) = permit(dollar, address(sale), DOLLAR, vm.getBlockTimestamp());
        refuses(abi.encodeWithSelector(Pausable.EnforcedPause.selector));
        sale.buyWithStablecoin(NTC, DOLLAR, 0);
        refuses(abi.encodeWithSelector(Pausable.EnforcedPause.selector));
        sale.buyWithStablecoinPermit(NTC, DOLLAR, 0, vm.getBlockTimestamp(), v, r, s);
        vm.prank(GUARDIAN);
        sale.unpause();
        buy(NTC);
    }

    function test_APermitReplacesTheApproval() public {
        dollar.mint(signer(), DOLLAR);
        (uint8 v, bytes32 r, bytes32 s) = permit(dollar, address(sale), DOLLAR, vm.getBlockTimestamp());
        vm.prank(signer());
        sale.buyWithStablecoinPermit(10 * NTC, DOLLAR, ACCOUNT, vm.getBlockTimestamp(), v, r, s);
        vm.assertEq(settlement.deposited(ACCOUNT), 10 * NTC);
    }

    function test_APermitSomebodySentFirstStillBuys() public {
        dollar.mint(signer(), DOLLAR);
        (uint8 v, bytes32 r, bytes32 s) = permit(dollar, address(sale), DOLLAR, vm.getBlockTimestamp());
        dollar.permit(signer(), address(sale), DOLLAR, vm.getBlockTimestamp(), v, r, s);
        vm.prank(signer());
        sale.buyWithStablecoinPermit(10 * NTC, DOLLAR, 0, vm.getBlockTimestamp(), v, r, s);
        vm.assertEq(ntc.balanceOf(signer()), 10 * NTC);
    }

    function test_AWrongPermitIsRefusedByTheStablecoin() public {
        dollar.mint(signer(), DOLLAR);
        (uint8 v, bytes32 r, bytes32 s) = permit(dollar, address(sale), DOLLAR - 1, vm.getBlockTimestamp());
        refuses(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(sale), 0, DOLLAR));
        vm.prank(signer());
        sale.buyWithStablecoinPermit(10 * NTC, DOLLAR, 0, vm.getBlockTimestamp(), v, r, s);
    }

    function _saleFor(IERC20Metadata coin) private returns (TokenSale other, Intercoin token) {
        uint256 nonce = vm.getNonce(address(this));
        token = new Intercoin(vm.computeCreateAddress(address(this), nonce + 2), FOUNDER);
        Settlement escrow = new Settlement(token, DELAY, PROPOSER, OPERATOR, GUARDIAN);
        other = new TokenSale(token, escrow, coin, etherFeed, cast(), etherLimits(), CASHIER_LIMIT);
    }
}
