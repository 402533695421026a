// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {
    IAccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/IAccessControlDefaultAdminRules.sol";

import {Settlement} from "../src/Settlement.sol";
import {Scene} from "./Scene.sol";

/// @dev Who may call what: each guarded function against each of the cast.
contract RolesTest is Scene {
    bytes32 internal operatorRole;
    bytes32 internal guardianRole;

    function setUp() public override {
        super.setUp();
        operatorRole = settlement.OPERATOR_ROLE();
        guardianRole = settlement.GUARDIAN_ROLE();
    }

    function _others(address allowed) private pure returns (address[5] memory cast) {
        cast = [ADMIN, OPERATOR, GUARDIAN, STRANGER, OWNER];
        for (uint256 i = 0; i < cast.length; ++i) {
            if (cast[i] == allowed) {
                cast[i] = address(0xDEAD);
            }
        }
    }

    function _refusesRole(address account, bytes32 role) private {
        refuses(abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, account, role));
        vm.prank(account);
    }

    function test_OnlyTheOperatorSettles() public {
        address[5] memory cast = _others(OPERATOR);
        for (uint256 i = 0; i < cast.length; ++i) {
            _refusesRole(cast[i], operatorRole);
            settlement.settle(1, USAGE, USAGE, totals(1));
        }
        settleRoot(USAGE, 1);
    }

    function test_OnlyAGuardianVetoes() public {
        settleRoot(USAGE, 1);
        address[5] memory cast = _others(GUARDIAN);
        for (uint256 i = 0; i < cast.length; ++i) {
            _refusesRole(cast[i], guardianRole);
            settlement.veto(1);
        }
        vm.prank(GUARDIAN);
        settlement.veto(1);
    }

    function test_OnlyTheAdminAppointsAndDismisses() public {
        address[5] memory cast = _others(ADMIN);
        for (uint256 i = 0; i < cast.length; ++i) {
            _refusesRole(cast[i], settlement.DEFAULT_ADMIN_ROLE());
            settlement.grantRole(operatorRole, STRANGER);
            _refusesRole(cast[i], settlement.DEFAULT_ADMIN_ROLE());
            settlement.revokeRole(guardianRole, GUARDIAN);
        }
        vm.startPrank(ADMIN);
        settlement.revokeRole(operatorRole, OPERATOR);
        settlement.grantRole(operatorRole, STRANGER);
        vm.stopPrank();
        vm.assertTrue(settlement.hasRole(operatorRole, STRANGER));
        _refusesRole(OPERATOR, operatorRole);
        settlement.settle(1, USAGE, USAGE, totals(1));
    }

    function test_TheAdminIsHandedOverInTwoStepsAndThreeDays() public {
        vm.prank(ADMIN);
        settlement.beginDefaultAdminTransfer(STRANGER);
        refuses(
            abi.encodeWithSelector(
                IAccessControlDefaultAdminRules.AccessControlEnforcedDefaultAdminDelay.selector,
                block.timestamp + 3 days
            )
        );
        vm.prank(STRANGER);
        settlement.acceptDefaultAdminTransfer();
        pass(3 days + 1);
        vm.prank(STRANGER);
        settlement.acceptDefaultAdminTransfer();
        vm.assertEq(settlement.defaultAdmin(), STRANGER);
    }

    function test_TheAdminCannotAppointASecondAdmin() public {
        bytes32 adminRole = settlement.DEFAULT_ADMIN_ROLE();
        refuses(abi.encodeWithSelector(IAccessControlDefaultAdminRules.AccessControlEnforcedDefaultAdminRules.selector));
        vm.prank(ADMIN);
        settlement.grantRole(adminRole, STRANGER);
    }

    function test_NobodyCannotBeAdmin() public {
        refuses(
            abi.encodeWithSelector(
                IAccessControlDefaultAdminRules.AccessControlInvalidDefaultAdmin.selector, address(0)
            )
        );
        new Settlement(token, DELAY, address(0), OPERATOR, GUARDIAN);
    }
}
